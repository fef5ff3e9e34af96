//! Relational verbs, groups, joins, splits and preprocessors, on iris and a table beside it.
//!
//! ```text
//! cargo run --release -p air-data --example data_verbs
//! ```

use air_data::preprocess::{Chain, Concatenator, LabelEncoder, Preprocessor, StandardScaler};
use air_data::{FileFormat, Join, WriteOptions, agg, col, desc, lit};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Species {
    name: String,
    latin: String,
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let iris = air_data::read_csv(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/iris.csv"))?;
    println!("{iris}\n\n{}\n", iris.summary()?);

    // Expressions, sorted: the three largest petals.
    let areas = iris.with_column("area", col("petal.length") * col("petal.width"));
    areas.select(["variety", "area"]).sort([desc("area")]).limit(3).show(3)?;

    // Groups.
    let groups = areas.group_by(["variety"]);
    let means = groups.aggregate([
        agg::count().alias("flowers"),
        agg::mean("area").alias("mean"),
        agg::quantile("area", 0.9).alias("p90"),
    ]);
    means.sort(["variety"]).show(3)?;

    // A join; names that both sides have get a suffix.
    let species =
        [("Setosa", "Iris setosa"), ("Versicolor", "Iris versicolor"), ("Sibirica", "Iris sibirica")];
    let species = species.map(|(name, latin)| Species { name: name.to_owned(), latin: latin.to_owned() });
    let species = air_data::from_items(species.into())?;
    let joined = means.join(&species, Join::full([("variety", "name")])).sort(["variety"]);
    joined.select(["variety", "flowers", "latin"]).show(4)?;

    // The same in SQL, with a window.
    iris.session().register("areas", &areas)?;
    let query =
        "select variety, area, rank() over (partition by variety order by area desc) as rank from areas";
    let largest = iris.session().sql(query)?.filter_expr(col("rank").eq(lit(1))).sort(["variety"]);
    largest.show(9)?;

    // Written into a directory for each variety, and read back from one of them.
    let out = tempfile::tempdir()?;
    let path = out.path().join("iris").to_string_lossy().into_owned();
    let by_variety = WriteOptions { partition_by: vec!["variety".to_owned()], ..WriteOptions::default() };
    areas.write(&path, FileFormat::Parquet, by_variety)?;
    let back = air_data::read_parquet(&path)?.filter_expr(col("variety").eq(lit("Setosa")));
    println!("{} files, {} of Setosa", back.input_files()?.len(), back.count()?);

    // The same rows as TensorFlow's records.
    let records = out.path().join("iris.tfrecord").to_string_lossy().into_owned();
    areas.select(["variety", "area"]).write_tfrecord(&records)?;
    println!("{}", air_data::read_tfrecord(&records)?);

    // From flowers to vectors and labels, learnt from the part to train with.
    let (train, test) = iris.train_test_split(0.2, Some(7))?;
    let numbers = ["sepal.length", "sepal.width", "petal.length", "petal.width"];
    let fitted = Chain::new()
        .then(StandardScaler::new(numbers))
        .then(LabelEncoder::new("variety"))
        .then(Concatenator::new(numbers))
        .fit(&train)?;
    fitted.transform(&test).show(2)?;
    println!("labels {:?}", fitted.labels("variety").unwrap_or(&[]));
    Ok(())
}
