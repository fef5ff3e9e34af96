//! `run`: pipelines that cannot be run, and what is said about them.

use super::pipelines::Case;
use super::{fails, succeeds};

/// What is said about a pipeline, without the directory before the file's name.
fn error_with(case: &Case, args: &[&str]) -> String {
    let file = case.path("pipe.toml");
    let (code, error) = fails(&[&["run", &file], args].concat());
    assert_eq!(code, 1, "{error}");
    let error = error.strip_prefix("error: ").unwrap().trim_end();
    error.replace(&case.path(""), "")
}

fn error(pipeline: &str) -> String {
    error_with(&Case::new(pipeline), &[])
}

/// What is said about these steps over iris.
fn of_steps(steps: &[&str]) -> String {
    error_with(&Case::steps(steps), &[])
}

#[test]
fn the_file() {
    let (code, told) = fails(&["run", "/no/such.toml"]);
    assert_eq!(code, 1);
    assert!(told.starts_with("error: cannot read the configuration `/no/such.toml`\n"), "{told}");
    assert_eq!(fails(&["run"]).0, 2);
    let told = error("[read\n");
    assert!(told.starts_with("pipe.toml:1: "), "{told}");
    assert_eq!(error(""), "pipe.toml: missing field `read`");
    assert_eq!(
        error("read.path = 'flowers.csv'\nsteps = []\n"),
        "pipe.toml:2: unknown field `steps`, expected one of `read`, `tables`, `params`, `step`, `write`; did you mean `step`?"
    );
    let told = error("[read]\npath = 'flowers.csv'\nfromat = 'csv'\n");
    assert!(
        told.starts_with("pipe.toml:3: `read.fromat`: unknown field `fromat`")
            && told.ends_with("did you mean `format`?"),
        "{told}"
    );
    let told = error("[read]\npath = 'flowers.csv'\nformat = 'praquet'\n");
    assert!(
        told.starts_with("pipe.toml:3: `read.format`: unknown variant `praquet`")
            && told.ends_with("did you mean `parquet`?"),
        "{told}"
    );
    let told = error("[read]\npath = 'flowers.csv'\ncsv.delimeter = ';'\n");
    assert!(told.contains("`read.csv.delimeter`") && told.ends_with("did you mean `delimiter`?"), "{told}");
    let told = error("read.path = 7\n");
    assert_eq!(
        told,
        "pipe.toml:1: `read.path`: invalid type: integer `7`, expected a text or a list of texts"
    );
    let case = Case::steps(&["limit = 1"]);
    assert_eq!(error_with(&case, &["--set", "limit"]), "--set limit: expected KEY=VALUE");
    let told = error_with(&case, &["--set", "write.fromat=csv"]);
    assert!(
        told.starts_with("--set write.fromat=csv: `write.fromat`: unknown field")
            && told.ends_with("did you mean `format`?"),
        "{told}"
    );
    let told = error("read.path = 'flowers.csv'\nparams.x = [1]\n");
    assert_eq!(
        told,
        "pipe.toml:2: `params.x`: invalid type: sequence, expected a number, a text, true or false"
    );
}

#[test]
fn what_is_read_and_written() {
    let case = Case::new("read.path = 'gone.csv'\n");
    assert_eq!(error_with(&case, &[]), "pipe.toml: [read]: no file at gone.csv");
    assert_eq!(error("read.path = []\n"), "pipe.toml: [read]: path: an empty list names no file");
    let told = error("read.path = 'flowers.csv'\ntables.other.path = 'other.xyz'\n");
    assert_eq!(told, "pipe.toml: [tables.other]: no file at other.xyz");
    let told = error("read.path = 'flowers.csv'\ntables.input.path = 'kinds.csv'\n");
    assert_eq!(
        told,
        "pipe.toml: [tables.input]: `input` is what a query calls the rows before it; give another name"
    );
    let told = error("read = { path = 'flowers.csv', csv = { delimiter = 'é' } }\n");
    assert_eq!(told, "pipe.toml: [read]: bad setting delimiter: 'é' is not an ASCII character");
    let told = error("read = { path = 'flowers.csv', schema = ['id bigint', 'name strin'] }\n");
    assert!(
        told.starts_with("pipe.toml: [read]: in `name strin`: a column is its name and its SQL type"),
        "{told}"
    );

    let write = |write: &str| error(&format!("read.path = 'flowers.csv'\n[write]\n{write}\n"));
    assert!(write("path = 'out'").starts_with("pipe.toml: [write]: cannot tell the format of out"));
    assert!(write("path = 'out.txt'").contains("are read and not written"), "{}", write("path = 'out.txt'"));
    let told = write("path = 'out'\nformat = 'csv'\npartition_by = ['varety']");
    assert!(told.starts_with("pipe.toml: [write]: no column 'varety'; did you mean 'variety'?"), "{told}");
    assert_eq!(
        write("path = 'out.parquet'\nrow_group_rows = 0"),
        "pipe.toml: [write]: bad setting row_group_rows: at least 1"
    );
    let told = write("path = 'out.csv'\npartition_by = ['variety']");
    assert!(told.contains("a single file has no directories"), "{told}");
}

#[test]
fn a_step_has_one_verb() {
    assert_eq!(
        of_steps(&["limit = 3", "filter = 'true'\nlimit = 2"]),
        "pipe.toml:5: step 2: it has more than one verb, filter and limit; write a [[step]] for each, in their order"
    );
    let told = of_steps(&[""]);
    assert!(
        told.starts_with("pipe.toml:3: step 1: it has no verb; the verbs are filter, select, "),
        "{told}"
    );
    let told = of_steps(&["limit = 3", "fitler = 'true'"]);
    assert!(
        told.starts_with("pipe.toml:6: step 2: unknown verb `fitler`, expected one of `filter`, ")
            && told.ends_with("; did you mean `filter`?"),
        "{told}"
    );
    assert_eq!(
        of_steps(&["distinct = false"]),
        "pipe.toml:3: step 1: distinct is true; leave the step out instead"
    );
}

#[test]
fn what_a_verb_takes() {
    assert_eq!(
        of_steps(&["limit = 'ten'"]),
        "pipe.toml:4: step 1 (limit): invalid type: string \"ten\", expected usize"
    );
    assert!(
        of_steps(&["limit = -1"]).starts_with("pipe.toml:4: step 1 (limit): invalid value: integer `-1`")
    );
    assert_eq!(
        of_steps(&["limit = 1", "sample = { fractoin = 0.5 }"]),
        "pipe.toml:6: step 2 (sample): unknown field `fractoin`, expected `fraction` or `seed`; did you mean `fraction`?"
    );
    assert!(of_steps(&["sample = { seed = 1 }"]).ends_with("step 1 (sample): missing field `fraction`"));
    assert_eq!(
        of_steps(&["sample = { fraction = 1.5 }"]),
        "pipe.toml: step 1 (sample): bad setting fraction: between 0 and 1, not 1.5"
    );
    assert!(
        of_steps(&["repartition = 0"]).starts_with("pipe.toml: step 1 (repartition): bad setting blocks")
    );
    assert_eq!(of_steps(&["select = []"]), "pipe.toml: step 1 (select): it needs some columns");
    assert_eq!(
        of_steps(&["sort = []"]),
        "pipe.toml: step 1 (sort): bad setting keys: a sort needs at least one"
    );
    let told = of_steps(&[r#"join = { table = "kinds", on = [["variety", "name", "x"]] }"#]);
    assert!(
        told.contains(
            "step 1 (join): invalid length 3, expected a column's name, or a list of a left and a right one"
        ),
        "{told}"
    );
    let told = of_steps(&[r#"join = { table = "kinds", on = ["variety"], how = "lft" }"#]);
    assert!(
        told.contains("step 1 (join): unknown variant `lft`") && told.ends_with("did you mean `left`?"),
        "{told}"
    );
    assert_eq!(
        of_steps(&[r#"join = { table = "kind", on = ["variety"] }"#]),
        "pipe.toml: step 1 (join): no table `kind`; did you mean `kinds`?"
    );
    let told = of_steps(&[r#"join = { table = "kinds", on = ["variety"] }"#]);
    assert!(told.starts_with("pipe.toml: step 1 (join): no column 'variety'"), "{told}");
    let told = of_steps(&[r#"join = { table = "kinds", on = [["petal.width", "name"]] }"#]);
    assert!(
        told.starts_with("pipe.toml: step 1 (join): cannot join 'petal.width' (Float64) with 'name' (Utf8)"),
        "{told}"
    );
    assert!(
        of_steps(&[r#"drop = ["varety"]"#])
            .starts_with("pipe.toml: step 1 (drop): no column 'varety'; did you mean 'variety'?")
    );
    assert!(
        of_steps(&[r#"rename = { varety = "x" }"#])
            .starts_with("pipe.toml: step 1 (rename): no column 'varety'")
    );
}

#[test]
fn preprocessors() {
    assert!(
        of_steps(&["preprocess = 'gone.json'"])
            .starts_with("pipe.toml: step 1 (preprocess): cannot read gone.json: ")
    );
    let told = of_steps(&["preprocess = 'kinds.csv'"]);
    assert!(
        told.starts_with("pipe.toml: step 1 (preprocess): kinds.csv is no saved preprocessor: "),
        "{told}"
    );
}

#[test]
fn texts_of_sql() {
    let told = of_steps(&["limit = 5", "filter = 'variety ='"]);
    assert!(told.starts_with("pipe.toml: step 2 (filter): in `variety =`: sql parser error: Expected: an expression, found: EOF"), "{told}");
    let told = of_steps(&["filter = 'varety = 1'"]);
    assert!(
        told.starts_with(
            "pipe.toml: step 1 (filter): in `varety = 1`: no column 'varety'; did you mean 'variety'?"
        ),
        "{told}"
    );
    // Names that need quotes.
    let told = of_steps(&["filter = 'petal.length > 1'"]);
    assert!(told.ends_with("in SQL that column is written \"petal.length\", in double quotes"), "{told}");
    let told = of_steps(&[r#"rename = { variety = "Variety" }"#, "filter = \"Variety = 'Setosa'\""]);
    assert!(told.ends_with("in SQL that column is written \"Variety\", in double quotes"), "{told}");
    // Wrong types.
    let told = of_steps(&["filter = 'variety'"]);
    assert_eq!(
        told,
        "pipe.toml: step 1 (filter): Cannot create filter with non-boolean predicate 'variety' returning Utf8"
    );
    let told = of_steps(&["with = { x = '\"petal.length\" + variety' }"]);
    assert!(told.starts_with("pipe.toml: step 1 (with): ") && told.contains("Float64 + Utf8"), "{told}");
    let told = of_steps(&["group_by = { keys = ['variety'], aggregates = ['sum(variety) as s'] }"]);
    assert!(
        told.starts_with(
            "pipe.toml: step 1 (group_by): No function matches the given name and argument types 'sum(Utf8)'"
        ),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        of_steps(&["filter = 'lenght(variety) > 1'"])
            .ends_with("Invalid function 'lenght'. Did you mean 'length'?")
    );
    // Aggregates and windows where there are none.
    assert_eq!(
        of_steps(&["select = ['sum(\"petal.length\") as s']"]),
        "pipe.toml: step 1 (select): in `sum(\"petal.length\") as s`: aggregates belong in a group_by, or over a window: sum(x) over (...)"
    );
    let told = of_steps(&["filter = 'row_number() over () > 3'"]);
    assert!(told.ends_with("a function over a window; make it a column in a `with` step before"), "{told}");
    let told = of_steps(&["group_by = { aggregates = ['\"petal.length\" + 1'] }"]);
    assert!(told.ends_with("it is no aggregate, such as sum(x) as s or count(*) as n"), "{told}");
    let told = of_steps(&["group_by = { aggregates = ['count(*) as n', 'min(variety) as n'] }"]);
    assert!(told.contains("step 1 (group_by): column 'n' appears more than once"), "{told}");
    // Queries.
    let told = of_steps(&["sql = 'select * from inptu'"]);
    assert_eq!(told, "pipe.toml: step 1 (sql): table 'inptu' not found");
    let told = of_steps(&["sql = 'drop table kinds'"]);
    assert!(told.starts_with("pipe.toml: step 1 (sql): DDL not supported"), "{told}");
    let told = of_steps(&["sql = 'select varety from input'"]);
    assert!(
        told.starts_with("pipe.toml: step 1 (sql): no column 'varety'; did you mean 'variety'?"),
        "{told}"
    );
    // Parameters.
    assert_eq!(
        error(
            "read.path = 'flowers.csv'\nparams.least = 3\n[[step]]\nfilter = '\"petal.length\" > $leest'\n"
        ),
        "pipe.toml: step 1 (filter): in `\"petal.length\" > $leest`: no parameter $leest; did you mean $least?"
    );
    assert_eq!(
        of_steps(&["sql = 'select * from input where \"petal.length\" > $x'"]),
        "pipe.toml: step 1 (sql): no parameter $x; give it in [params], or with --set params.x=..."
    );
}

#[test]
fn what_is_too_much() {
    let told = of_steps(&["limit = 1"; 101]);
    assert_eq!(told, "pipe.toml: 101 steps; at most 100");
    let long = format!("filter = 'variety in ({}1)'", "1, ".repeat(30_000));
    assert!(of_steps(&[&long]).starts_with("pipe.toml: step 1 (filter): a text of 90"));
    let deep = format!("filter = '{}true{}'", "(".repeat(400), ")".repeat(400));
    let told = of_steps(&[&deep]);
    assert!(
        told.starts_with("pipe.toml: step 1 (filter): in `((((")
            && told.ends_with("recursion limit exceeded"),
        "{told}"
    );
    let wide = format!("with = {{ n = '1{}' }}", "+1".repeat(600));
    let told = of_steps(&[&wide, &wide]);
    assert!(
        told.starts_with("pipe.toml: step 2 (with): with this text the pipeline has 1200 operators, "),
        "{told}"
    );
    let unions = format!("sql = 'select 1{}'", " union all select 1".repeat(400));
    assert!(of_steps(&[&unions]).contains("step 1 (sql): with this text the pipeline has 1201 operators"));
}

#[test]
fn as_much_as_there_may_be() {
    let runs = |steps: &[&str]| succeeds(&["run", &Case::steps(steps).path("pipe.toml")]);
    let steps = [&["limit = 1", "select = ['1 as n']"][..], &["with = { n = 'n + 1' }"; 98]].concat();
    assert_eq!(runs(&steps), "{\"n\":99}\n");
    let wide = format!("with = {{ n = '1{}' }}", "+1".repeat(400));
    assert_eq!(runs(&["limit = 1", &wide, "select = ['n']"]), "{\"n\":401}\n");
    let either = format!("filter = '''variety = 'Setosa'{}'''", " or variety = 'Setosa'".repeat(480));
    assert_eq!(runs(&[&either, "limit = 1"]).lines().count(), 1);
    let unions = format!("sql = 'select 1 as n{}'", " union all select 1".repeat(330));
    assert_eq!(runs(&[&unions]).lines().count(), 331);
}
