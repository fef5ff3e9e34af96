//! The deployments of a running server, and the routes to them: what a deploy changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;

use crate::app::{Part, Planned};
use crate::deploy::{ApplicationStatus, Ground, Line, Outcome, Running, ServeStatus, Target, Uses, waves};
use crate::error::ServeError;
use crate::http::{Route, RouteTable};
use crate::llm::{self, Models};
use crate::openapi::{self, Described};
use crate::v2::{Catalog, Served};

/// How often a deploy looks whether the last request of an old route is over.
const LOOK: Duration = Duration::from_millis(1);
/// Beyond a deployment's own limit, until nobody waits for its end any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// What runs.
pub(crate) struct Deployments {
    ground: Ground,
    pub table: Arc<ArcSwap<RouteTable>>,
    /// What protocol V2 reaches.
    pub catalog: Arc<Catalog>,
    /// What OpenAI's API reaches.
    pub llms: Arc<Models>,
    running: Mutex<Vec<Arc<dyn Running>>>,
    /// Which others each calls.
    uses: Mutex<HashMap<Arc<str>, Vec<Arc<str>>>>,
    last: Mutex<Last>,
    /// Held during a deploy.
    turn: Mutex<()>,
    closing: AtomicBool,
}

/// How the last deploy went.
struct Last {
    at: SystemTime,
    failure: Option<String>,
}

impl Deployments {
    pub(crate) fn new(ground: Ground) -> Self {
        Deployments {
            ground,
            table: Arc::new(ArcSwap::from_pointee(RouteTable::default())),
            catalog: Arc::default(),
            llms: Arc::default(),
            running: Mutex::default(),
            uses: Mutex::default(),
            last: Mutex::new(Last { at: SystemTime::now(), failure: None }),
            turn: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<dyn Running>> {
        self.running.lock().iter().find(|running| &**running.name() == name).cloned()
    }

    /// The deployment of that name, for something to be asked of it.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<dyn Running>, ServeError> {
        self.find(name).ok_or_else(|| {
            let names: Vec<String> = self.running.lock().iter().map(|it| it.name().to_string()).collect();
            let reason = format!("there is none of this name; there are: {}", names.join(", "));
            ServeError::Refused { deployment: name.into(), reason }
        })
    }

    /// Leads the handles that a deployment uses to deployments that run.
    pub(crate) fn connect(&self, name: &Arc<str>, uses: &[Arc<dyn Line>]) -> Result<(), ServeError> {
        for line in uses.iter().filter(|line| line.name() != name) {
            let to = self.find(line.name()).map(|running| Target { handle: running.handle(), json: None });
            lead(name, &**line, to.as_ref())?;
        }
        self.uses.lock().insert(Arc::clone(name), uses.iter().map(|line| Arc::clone(line.name())).collect());
        Ok(())
    }

    /// Makes what runs what these parts say: new deployments are started, others updated, and those that are not among them ended.
    ///
    /// First what is new must be ready, each after those that it calls; then what is old is updated; then the routes change, all at once; only
    /// then does anything end, each before those that it calls.
    pub(crate) fn deploy(&self, parts: Vec<Part>) -> Result<(), ServeError> {
        let Some(_turn) = self.turn.try_lock() else {
            return Err(ServeError::config("another deploy is under way: wait for its end"));
        };
        let result = self.deploy_in_turn(parts);
        let failure = result.as_ref().err().map(ToString::to_string);
        *self.last.lock() = Last { at: SystemTime::now(), failure };
        result
    }

    fn deploy_in_turn(&self, parts: Vec<Part>) -> Result<(), ServeError> {
        let names: Vec<Arc<str>> = parts.iter().map(|part| Arc::clone(&part.name)).collect();
        let (mut routes, mut models, mut llms, mut new) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let uses = self.connect_all(&parts)?;
        let mut waiting = HashMap::new();
        for part in parts {
            llms.extend(part.llm.map(|llm| (Arc::clone(&part.name), llm)));
            models.extend(part.served.map(|make| (Arc::clone(&part.name), make)));
            routes
                .extend(part.path.zip(part.route).map(|(path, route)| (Arc::clone(&part.name), path, route)));
            waiting.insert(part.name, part.planned);
        }
        let waves = waves(&uses);
        self.uses.lock().extend(uses.into_vec());
        let ready = self.start(&waves, &mut waiting, &mut new);
        let table = ready.and_then(|()| self.routes(&routes)).and_then(|table| {
            for wave in &waves {
                let updates = wave.iter().filter_map(|name| waiting.remove(name).zip(self.find(name)));
                let begun = updates.map(|(to, running)| running.update(to.into_any(), None));
                // Each is updated or rolled back by itself; all are waited for.
                first_error(begun.collect::<Vec<_>>().into_iter().map(|begun| begun?.wait()))?;
            }
            let served = models.iter().map(|(name, make)| make(&self.get(name)?));
            let served = served.collect::<Result<Vec<Served>, ServeError>>()?;
            let llms =
                llms.iter().map(|(name, llm)| llm::Served::new(llm, &*self.get(name)?, &self.ground.metrics));
            Ok((table, served, llms.collect::<Result<Vec<_>, ServeError>>()?))
        });
        let (table, served, llms) = match table {
            Ok(ready) => ready,
            Err(error) => {
                self.end(new, None);
                return Err(error);
            }
        };
        let before = self.table.swap(Arc::new(table));
        let models = self.catalog.declare(served);
        let llms = self.llms.declare(llms);
        let gone: Vec<_> =
            self.running.lock().iter().filter(|running| !names.contains(running.name())).cloned().collect();
        let is_gone = |route: &&Arc<Route>| gone.iter().any(|running| **running.name() == *route.deployment);
        let old: Vec<Arc<Route>> = before.routes.values().filter(is_gone).cloned().collect();
        drop(before);
        let grace = gone.iter().map(|running| running.grace()).max().unwrap_or_default();
        outlive(grace, || {
            old.iter().any(|route| Arc::strong_count(route) > 1)
                || models.iter().any(|model| Arc::strong_count(model) > 1)
                || llms.iter().any(|model| Arc::strong_count(model) > 1)
        });
        self.end(gone, None);
        Ok(())
    }

    /// Leads the handles that parts use to one another, and says which uses which.
    fn connect_all(&self, parts: &[Part]) -> Result<Box<Uses>, ServeError> {
        for part in parts {
            for line in &part.uses {
                let to = parts.iter().find(|to| to.name == *line.name());
                // What runs already goes on under its name.
                let to = to.map(|to| {
                    let running = self.find(&to.name).map(|running| running.handle());
                    let handle = running.unwrap_or_else(|| to.planned.handle());
                    Target { json: to.json.and_then(|json| json(&*handle)), handle }
                });
                lead(&part.name, &**line, to.as_ref())?;
            }
        }
        let uses = |part: &Part| part.uses.iter().map(|line| Arc::clone(line.name())).collect();
        Ok(parts.iter().map(|part| (Arc::clone(&part.name), uses(part))).collect())
    }

    /// Starts those of what waits that do not run yet, each when all that it calls is ready.
    fn start(
        &self,
        waves: &[Vec<Arc<str>>],
        waiting: &mut HashMap<Arc<str>, Box<dyn Planned>>,
        new: &mut Vec<Arc<dyn Running>>,
    ) -> Result<(), ServeError> {
        for wave in waves {
            let mut outcomes = Vec::new();
            for name in wave.iter().filter(|name| self.find(name).is_none()) {
                let Some(planned) = waiting.remove(name) else { continue };
                let (running, outcome) = planned.start(&self.ground)?;
                self.running.lock().push(Arc::clone(&running));
                new.push(running);
                outcomes.push(outcome);
            }
            first_error(outcomes.into_iter().map(Outcome::wait))?;
        }
        Ok(())
    }

    fn routes(&self, routes: &[(Arc<str>, String, crate::app::MakeRoute)]) -> Result<RouteTable, ServeError> {
        let mut table = HashMap::new();
        for (name, path, make) in routes {
            let route = make(&*self.get(name)?, &self.ground)?;
            table.insert(path.clone(), Arc::new(route));
        }
        Ok(RouteTable { routes: table })
    }

    /// Ends deployments; what they have let in is answered. Each ends before those that it calls.
    fn end(&self, deployments: Vec<Arc<dyn Running>>, until: Option<Instant>) {
        let uses = self.uses.lock().clone();
        let of = |running: &Arc<dyn Running>| uses.get(running.name()).cloned().unwrap_or_default();
        let all: Vec<_> = deployments.iter().map(|it| (Arc::clone(it.name()), of(it))).collect();
        for wave in waves(&all).into_iter().rev() {
            let wave = deployments.iter().filter(|running| wave.contains(running.name()));
            let ending: Vec<_> = wave.map(|running| (running.close(), running)).collect();
            for (outcome, running) in ending {
                let own = running.grace() + PATIENCE;
                let left =
                    until.map_or(own, |until| own.min(until.saturating_duration_since(Instant::now())));
                if !outcome.wait_for(left) {
                    running.give_up("it had not finished when the time to end was over");
                }
                self.running.lock().retain(|other| !Arc::ptr_eq(other, running));
                self.uses.lock().remove(running.name());
            }
        }
    }

    /// Ends everything; what has not ended by then is given up.
    pub(crate) fn close(&self, until: Instant) {
        self.closing.store(true, Ordering::Relaxed);
        let mut all: Vec<_> =
            self.catalog.of_repository().iter().map(|it| Arc::clone(it.running())).collect();
        self.catalog.clear();
        self.llms.declare(Vec::new());
        all.extend(self.running.lock().iter().cloned());
        self.end(all, Some(until));
    }

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.running.lock().iter().map(|running| Arc::clone(running.name())).collect()
    }

    pub(crate) fn status(&self) -> ServeStatus {
        let running = self.running.lock().clone();
        let deployments = running.iter().map(|it| (it.name().to_string(), it.status())).collect();
        let last = self.last.lock();
        let at = last.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let deleting = self.closing.load(Ordering::Relaxed);
        let application = ApplicationStatus::of(deployments, last.failure.clone(), deleting, at);
        let mut applications = BTreeMap::from([("default".to_owned(), application)]);
        let models = self.catalog.of_repository();
        if let Some(at) = models.iter().map(|model| model.since()).max() {
            let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            let models = models.iter().map(|model| (model.name.to_string(), model.running().status()));
            let application = ApplicationStatus::of(models.collect(), None, deleting, at);
            applications.insert("repository".to_owned(), application);
        }
        ServeStatus { applications }
    }

    /// The OpenAPI document of what is served now.
    pub(crate) fn openapi(&self, has_repository: bool) -> Value {
        let (table, models) = (self.table.load_full(), self.catalog.all());
        let signed: Vec<_> = models.iter().map(|model| (&*model.name, model.signed())).collect();
        let routes = table.routes.iter();
        let mut routes: Vec<(&str, &str, &[&str])> = routes
            .map(|(path, route)| (path.as_str(), route.deployment.as_str(), route.endpoint.content_types()))
            .collect();
        routes.sort_unstable();
        let models = signed.iter().map(|(name, signed)| (*name, signed.signature())).collect();
        openapi::document(&Described { routes, models, has_repository, has_llms: !self.llms.is_empty() })
    }

    /// A deployment that cannot answer now.
    pub(crate) fn down(&self) -> Option<String> {
        let running = self.running.lock().clone();
        let down = running.iter().find(|running| !running.is_up())?;
        Some(format!("deployment `{}` has no replica that is up", down.name()))
    }
}

/// Waits until no request holds what led to a deployment, at most for the limit. A request that found its route before the table changed may
/// still be about to call the deployment.
fn outlive(limit: Duration, is_held: impl Fn() -> bool) {
    let until = Instant::now() + limit;
    while is_held() && Instant::now() < until {
        std::thread::sleep(LOOK);
    }
}

/// Leads a handle that a deployment uses to another deployment.
fn lead(from: &Arc<str>, line: &dyn Line, to: Option<&Target>) -> Result<(), ServeError> {
    let nowhere = || "which is not deployed with it: add a deployment of that name".to_owned();
    to.ok_or_else(nowhere).and_then(|to| line.connect(to)).map_err(|reason| ServeError::Dependency {
        deployment: Arc::clone(from),
        dependency: Arc::clone(line.name()),
        reason,
    })
}

/// Waits for all; the first that failed counts.
fn first_error(results: impl Iterator<Item = Result<(), ServeError>>) -> Result<(), ServeError> {
    let all: Vec<_> = results.collect();
    all.into_iter().collect()
}
