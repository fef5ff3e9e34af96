//! Splits of every kind, and SQL over named datasets.

use air_data::{DataError, Dataset, Row};

use super::{session, told};

fn parts(datasets: &[Dataset]) -> Vec<Vec<i64>> {
    datasets.iter().map(|ds| ds.take_all::<i64>().unwrap()).collect()
}

fn range(rows: std::ops::Range<i64>) -> Vec<i64> {
    rows.collect()
}

#[test]
fn at_indices() {
    let ds = session().range(10).unwrap().repartition(3);
    let got = parts(&ds.split_at_indices(&[2, 5, 5, 12]).unwrap());
    assert_eq!(got, [range(0..2), range(2..5), vec![], range(5..10), vec![]]);
    assert_eq!(parts(&ds.split_at_indices(&[]).unwrap()), [range(0..10)]);
    let error = told(&ds.split_at_indices(&[3, 2]).unwrap_err());
    assert_eq!(error, "bad setting indices: they must not go down, as from 3 to 2");
}

#[test]
fn by_parts_of_the_whole() {
    let ds = session().range(10).unwrap();
    assert_eq!(
        parts(&ds.split_proportionately(&[0.7, 0.2]).unwrap()),
        [range(0..7), range(7..9), range(9..10)]
    );
    let config = |fractions: &[f64]| {
        assert!(matches!(
            ds.split_proportionately(fractions).unwrap_err(),
            DataError::Config { field: "fractions", .. }
        ));
    };
    config(&[0.5, 0.5]);
    config(&[0.0, 0.5]);
    config(&[-0.1]);
    config(&[f64::NAN]);
}

#[test]
fn in_equal_parts() {
    let ds = session().range(11).unwrap().repartition(2);
    assert_eq!(parts(&ds.split_equal(3)), [range(0..3), range(3..6), range(6..9)]);
    let sizes: Vec<usize> = parts(&ds.split(3)).iter().map(Vec::len).collect();
    assert_eq!(sizes, [4, 4, 3]);
}

#[test]
fn into_train_and_test() {
    let ds = session().range(150).unwrap().repartition(4);
    let (train, test) = ds.train_test_split(0.2, None).unwrap();
    assert_eq!(parts(&[train, test]), [range(0..120), range(120..150)]);
    let (train, test) = ds.train_test_split(0.25, Some(7)).unwrap();
    let [train, test] = [train, test].map(|part| part.take_all::<i64>().unwrap());
    assert_eq!((train.len(), test.len()), (113, 37));
    let mut all = [train, test.clone()].concat();
    assert_eq!(all, ds.random_shuffle(7).take_all::<i64>().unwrap());
    all.sort_unstable();
    assert_eq!(all, range(0..150));
    assert!(ds.train_test_split(1.0, None).is_err() && ds.train_test_split(0.0, None).is_err());
}

#[test]
fn sql_joins_named_datasets_and_looks_over_windows() {
    let session = session();
    session.register("sales", &session.range(12).unwrap()).unwrap();
    session.register("shops", &session.range(3).unwrap().rename_columns([("id", "shop")])).unwrap();
    let query = "
        select shop, id, sum(id) over (partition by shop order by id) as so_far,
               rank() over (partition by shop order by id desc) as rank,
               lag(id) over (partition by shop order by id) as before,
               avg(id) over (partition by shop order by id rows between 1 preceding and current row) as recent
        from sales join shops on sales.id % 3 = shops.shop
        order by shop, id";
    let rows = session.sql(query).unwrap().take_all::<Row>().unwrap();
    assert_eq!(rows.len(), 12);
    let text: Vec<String> = rows[..4].iter().map(Row::to_string).collect();
    assert_eq!(
        text,
        [
            r#"{"shop":0,"id":0,"so_far":0,"rank":4,"before":null,"recent":0.0}"#,
            r#"{"shop":0,"id":3,"so_far":3,"rank":3,"before":0,"recent":1.5}"#,
            r#"{"shop":0,"id":6,"so_far":9,"rank":2,"before":3,"recent":4.5}"#,
            r#"{"shop":0,"id":9,"so_far":18,"rank":1,"before":6,"recent":7.5}"#,
        ]
    );
    let one = session
        .sql("select extract(year from date '2024-02-29') y, substring('abc' from 2 for 1) s, upper('x') u")
        .unwrap();
    assert_eq!(one.take::<Row>(1).unwrap()[0].to_string(), r#"{"y":2024,"s":"b","u":"X"}"#);
    let error = told(&session.sql("select nope from sales").unwrap_err());
    assert_eq!(error, "no column 'nope'; the columns are id");
    assert!(session.sql("create table t (a int)").is_err());
}
