//! The status page, as a browser shows it.

use std::process::Command;

use air_serve::{App, Deployment, DeploymentState, each, run};

use crate::client::post;
use crate::wait::until;

/// The page once its scripts have run, if this machine has a browser.
fn shown(url: &str) -> Option<String> {
    let profile = tempfile::tempdir().unwrap();
    let quiet =
        ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"];
    for browser in ["chromium", "chromium-browser", "google-chrome"] {
        let mut command = Command::new(browser);
        command.args(["--headless", "--no-sandbox", "--no-first-run", "--disable-sync"]).args(quiet);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        // Time of the page, not of the machine: its fetches are waited for.
        let Ok(output) = command.args(["--virtual-time-budget=5000", "--dump-dom", url]).output() else {
            continue;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{browser}: {said}");
        return Some(String::from_utf8(output.stdout).unwrap());
    }
    println!("no browser on this machine (Debian: apt-get install chromium): not checked");
    None
}

/// The text of a table's cells, row by row.
fn table(page: &str, id: &str) -> Vec<Vec<String>> {
    let (_, rest) = page.split_once(&format!("<tbody id=\"{id}\">")).unwrap();
    let (body, _) = rest.split_once("</tbody>").unwrap();
    let text = |cell: &str| {
        let (_, text) = cell.split_once('>').unwrap();
        text.split('<').next().unwrap().to_owned()
    };
    body.split("<tr>").skip(1).map(|row| row.split("<td").skip(1).map(text).collect()).collect()
}

#[test]
fn a_browser_shows_routes_deployments_and_what_befell_a_replica() {
    let fragile = Deployment::new("fragile", || {
        Ok(each(|x: i64| if x < 0 { panic!("<b>negative</b>") } else { Ok(x) }))
    });
    let steady =
        Deployment::new("steady", || Ok(each(|x: i64| Ok(x)))).with(|config| config.num_replicas = 2);
    let app = App::new().with_http(|http| http.port = 0).route("/fragile", fragile).route("/steady", steady);
    let server = run(app).unwrap();
    for _ in 0..3 {
        assert_eq!(post(server.addr(), "/steady", "1").status, 200);
    }
    assert_eq!(post(server.addr(), "/fragile", "-1").status, 500);
    until("the replica is replaced", || post(server.addr(), "/fragile", "1").status == 200);
    until("both are healthy", || {
        server.status().applications["default"]
            .deployments
            .values()
            .all(|it| it.status == DeploymentState::Healthy)
    });

    let Some(page) = shown(&format!("http://{}/-/", server.addr())) else { return };
    let routes = table(&page, "routes");
    let steady = routes.iter().find(|row| row[0] == "/steady").unwrap();
    assert_eq!((steady[1].as_str(), steady[5].as_str()), ("3", "0"));
    let fragile = routes.iter().find(|row| row[0] == "/fragile").unwrap();
    assert!(fragile[5].parse::<u32>().unwrap() >= 1, "{fragile:?}");
    let deployments = table(&page, "deployments");
    let names: Vec<_> = deployments.iter().map(|row| (&*row[0], &*row[1], &*row[3])).collect();
    assert_eq!(names, [("fragile", "HEALTHY", "1 / 1"), ("steady", "HEALTHY", "2 / 2")]);
    let replicas = table(&page, "replicas");
    assert_eq!(replicas.len(), 3);
    // What a model says is shown as text, whatever it says.
    assert!(
        replicas.iter().any(|row| row[4] == "1" && row[5].contains("&lt;b&gt;negative&lt;/b&gt;")),
        "{replicas:?}"
    );
}
