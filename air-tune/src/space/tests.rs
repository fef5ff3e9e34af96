#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rand::SeedableRng;
use serde_json::json;

use super::*;

fn reason(space: Space) -> String {
    space.validate().unwrap_err().to_string()
}

#[test]
fn bad_spaces_are_named_with_their_reason() {
    let one = |domain: Domain| reason(Space::new().with("x", domain));
    assert_eq!(one(choice(Vec::<i64>::new())), "parameter `x`: the list of values is empty");
    assert_eq!(one(grid([1, 1])), "parameter `x`: the value 1 is listed twice");
    assert_eq!(one(uniform(2.0, 1.0)), "parameter `x`: the lower bound 2 is above the upper bound 1");
    assert_eq!(one(uniform(f64::NAN, 1.0)), "parameter `x`: bounds must be finite, found NaN and 1");
    assert_eq!(one(log_uniform(0.0, 1.0)), "parameter `x`: a logarithmic range must start above 0, found 0");
    assert_eq!(one(log_int_uniform(0..=4)), "parameter `x`: a logarithmic range must start above 0, found 0");
    assert!(one(int_uniform(3..3)).contains("the range is empty"));
    assert!(one(int_uniform(3..)).contains("needs both ends"));
    assert!(one(choice([1.0, f64::NAN])).contains("not finite"));
    assert!(one(uniform(0.0, 1.0).step(0.0)).contains("`step`"));
    assert!(one(log_uniform(0.1, 1.0).step(0.1)).contains("cannot have a step"));
    assert!(one(uniform(f64::MIN, f64::MAX)).contains("too wide"));
    assert!(reason(Space::new().with("x", 1).with("x", 2)).contains("given twice"));
    assert!(reason(Space::new().with("", 1)).contains("empty"));
    assert!(reason(Space::new().with("a b", 1)).contains("cannot stand"));
    assert!(
        reason(Space::new().with("a", 1).with("a", Space::new().with("b", 2)))
            .contains("both a value and an object")
    );
    let late = Space::new().when("k", ["on"], Space::new().with("x", 1)).with("k", choice(["on"]));
    assert!(reason(late).contains("not defined before it"));
    let never = Space::new().with("k", choice(["on"])).when("k", ["off"], Space::new().with("x", 1));
    assert!(reason(never).contains("never is"));
    let random_grid =
        Space::new().with("k", choice([1, 2])).when("k", [1], Space::new().with("x", grid([1, 2])));
    assert!(reason(random_grid).contains("drawn at random"));
}

#[test]
fn nested_names_are_paths_and_conditions_follow_them() {
    let net = Space::new().with("kind", choice(["mlp", "conv"])).when(
        "kind",
        ["conv"],
        Space::new().with("k", grid([3])),
    );
    let net = Space {
        params: net.params.into_iter().filter(|p| p.path == "kind").collect(),
        constraints: Vec::new(),
    }
    .when("kind", ["conv"], Space::new().with("width", int_uniform(1..=3)));
    let space = Space::new().with("net", net);
    space.validate().unwrap();
    let paths: Vec<_> = space.params().iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["net.kind", "net.width"]);
    let mut point = Assignment::new();
    point.push("net.kind", json!("mlp"));
    assert!(space.check(&point).is_ok());
    assert!(!space.is_active(&space.params()[1], &point));
    let mut point = Assignment::new();
    point.push("net.kind", json!("conv"));
    assert!(space.check(&point).unwrap_err().to_string().contains("`net.width`: has no value"));
    point.push("net.width", json!(4));
    assert!(space.check(&point).unwrap_err().to_string().contains("outside its domain"));
}

#[test]
fn text_forms_are_rays() {
    let parsed = |text: &str| parse_param(text).unwrap().1;
    assert_eq!(parsed("lr=loguniform(1e-4,1e-1)"), log_uniform(1e-4, 1e-1));
    assert_eq!(parsed("u = choice(16, 32)"), choice([16, 32]));
    assert_eq!(
        parsed("u=choice(sgd,\"a,b\",null,1.5)"),
        Domain::Choice { values: vec![json!("sgd"), json!("a,b"), json!(null), json!(1.5)] }
    );
    assert_eq!(parsed("n=randint(1,9)"), int_uniform(1..=8));
    assert_eq!(parsed("n=qrandint(0,10,4)"), Domain::Int { low: 0, high: 8, log: false, step: 4 });
    assert_eq!(parsed("x=quniform(0,1,0.25)"), uniform(0.0, 1.0).step(0.25));
    assert_eq!(parsed("e=10"), fixed(10));
    assert_eq!(
        parsed("layers=choice([8,8],[16])"),
        Domain::Choice { values: vec![json!([8, 8]), json!([16])] }
    );
    for (text, expected) in [
        ("lr", "expected `name=domain`"),
        ("lr=", "expected grid"),
        ("lr=logunifrom(1,2)", "`logunifrom` is no domain"),
        ("lr=uniform(1)", "takes 2 arguments, found 1"),
        ("lr=uniform(a,b)", "`a` in `uniform(a,b)` is not a number"),
        ("lr=uniform(1,2", "no closing parenthesis"),
        ("n=randint(1.5,2)", "is not an integer"),
        ("c=choice()", "the list of values is empty"),
        ("c=choice(1,,2)", "empty value"),
        ("c=choice(\"a)", "open quote"),
        ("lr=loguniform(0,1)", "must start above 0"),
        ("lr=uniform(nan,1)", "must be finite"),
    ] {
        let error = parse_param(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

fn domains() -> impl Strategy<Value = Domain> {
    prop_oneof![
        (-1e6..1e6, 0.0..1e6).prop_map(|(low, width): (f64, f64)| uniform(low, low + width)),
        (1e-9..1e3, 1.0..1e6).prop_map(|(low, times): (f64, f64)| log_uniform(low, low * times)),
        (-1e3..1e3, 0.0..1e3, 0.01..10.0).prop_map(|(low, width, step): (f64, f64, f64)| uniform(
            low,
            low + width
        )
        .step(step)),
        (-1000_i64..1000, 0_i64..1000, 1_i64..50)
            .prop_map(|(low, width, step)| int_uniform(low..=low + width).step(step as f64)),
        (1_i64..1000, 0_i64..1000).prop_map(|(low, width)| log_int_uniform(low..=low + width)),
        (1_i64..20).prop_map(|n| choice(0..n)),
    ]
}

proptest! {
    #[test]
    fn samples_lie_in_their_domain(domain in domains(), seed: u64) {
        prop_assert_eq!(domain.check(), Ok(()));
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        for _ in 0..20 {
            let value = domain.sample(&mut rng);
            prop_assert!(domain.contains(&value), "{} not in {:?}", value, domain);
        }
    }

    #[test]
    fn no_text_panics_the_parser(text in "\\PC{0,40}") {
        let _ = parse_param(&text);
    }
}

#[test]
fn constraints_are_checked_and_kept_through_nesting() {
    let inner = Space::new()
        .with("a", int_uniform(0..=9))
        .with("b", uniform(0.0, 9.0))
        .at_most([("a", 2.0), ("b", 1.0)], 10.0);
    let space = Space::new().with("net", inner.clone());
    space.validate().unwrap();
    let point = |a: i64, b: f64| {
        let mut point = Assignment::new();
        point.push("net.a", json!(a));
        point.push("net.b", json!(b));
        point
    };
    assert!(space.holds(&point(4, 2.0)) && !space.holds(&point(4, 2.1)) && space.holds(&Assignment::new()));
    assert!(space.check(&point(5, 1.0)).unwrap_err().to_string().contains("a constraint does not hold"));
    let text = serde_json::to_string(&space).unwrap();
    assert_eq!(serde_json::from_str::<Space>(&text).unwrap(), space);
    assert!(reason(inner.clone().at_most([("c", 1.0)], 0.0)).contains("does not have it"));
    assert!(reason(inner.clone().at_most([("a", f64::NAN)], 0.0)).contains("must be finite"));
    assert!(reason(inner.clone().at_most([], 0.0)).contains("needs a parameter"));
    assert!(
        reason(Space::new().with("k", choice(["x"])).at_least([("k", 1.0)], 0.0)).contains("not a number")
    );
}

#[test]
fn a_normal_parameter_has_its_mean_and_deviation() {
    let domain = normal(3.0, 2.0);
    let mut rng = air_core::seed::Seed::new(1).rng();
    let values: Vec<f64> = (0..20_000).map(|_| domain.sample(&mut rng).as_f64().unwrap()).collect();
    assert!(values.iter().all(|value| domain.contains(&json!(value))));
    let mean = values.iter().sum::<f64>() / 20_000.0;
    let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0).sqrt();
    assert!((mean - 3.0).abs() < 0.06 && (deviation - 2.0).abs() < 0.05, "{mean} {deviation}");
    let stepped = normal(0.0, 1.0).step(0.5);
    let value = stepped.sample(&mut rng).as_f64().unwrap();
    assert!(
        (value * 2.0).fract() == 0.0 && stepped.contains(&json!(value)) && !stepped.contains(&json!(0.3))
    );
    assert!(normal(0.0, 0.0).check().is_err() && normal(f64::NAN, 1.0).check().is_err());
    assert_eq!(parse_param("x=normal(0,1)").unwrap().1, normal(0.0, 1.0));
    assert_eq!(parse_param("x=qnormal(0,1,0.5)").unwrap().1, stepped);
}
