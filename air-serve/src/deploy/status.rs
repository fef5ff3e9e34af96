//! What a server looks like from outside, in Ray Serve's words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fleet::Stage;

/// A server's applications by name. There is one, `default`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServeStatus {
    /// The applications.
    pub applications: BTreeMap<String, ApplicationStatus>,
}

/// Where an application is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ApplicationState {
    /// A deployment is being started, updated or ended.
    Deploying,
    /// Everything is as it should be.
    Running,
    /// The last deploy failed; what ran before it runs on. The message says why.
    DeployFailed,
    /// A deployment is unhealthy.
    Unhealthy,
    /// The server is shutting down.
    Deleting,
}

/// Where a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum DeploymentState {
    /// A version or a configuration is taking over.
    Updating,
    /// It has the replicas it should have.
    Healthy,
    /// A replica has failed and is not back yet.
    Unhealthy,
    /// Replicas are being added.
    Upscaling,
    /// Replicas are being taken away.
    Downscaling,
}

/// Where a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ReplicaState {
    /// It builds its model.
    Starting,
    /// It answers requests.
    Running,
    /// It finishes what it has.
    Stopping,
    /// It failed and will be started again.
    Recovering,
}

impl ReplicaState {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 4] = [Self::Starting, Self::Running, Self::Stopping, Self::Recovering];

    pub(crate) fn of(stage: Stage) -> Self {
        match stage {
            Stage::Starting => ReplicaState::Starting,
            Stage::Running => ReplicaState::Running,
            Stage::Stopping => ReplicaState::Stopping,
            Stage::Waiting { .. } => ReplicaState::Recovering,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            ReplicaState::Starting => "STARTING",
            ReplicaState::Running => "RUNNING",
            ReplicaState::Stopping => "STOPPING",
            ReplicaState::Recovering => "RECOVERING",
        }
    }
}

/// An application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ApplicationStatus {
    /// Where it is.
    pub status: ApplicationState,
    /// What went wrong, if something did.
    pub message: String,
    /// When it was last deployed, in seconds since 1970.
    pub last_deployed_time_s: f64,
    /// Its deployments by name.
    pub deployments: BTreeMap<String, DeploymentStatus>,
}

impl ApplicationStatus {
    pub(crate) fn of(
        deployments: BTreeMap<String, DeploymentStatus>,
        failure: Option<String>,
        deleting: bool,
        last_deployed_time_s: f64,
    ) -> Self {
        let any = |state| deployments.values().any(|deployment| deployment.status == state);
        let unwell = || {
            let unhealthy = deployments.iter().find(|(_, it)| it.status == DeploymentState::Unhealthy)?;
            Some(format!("deployment `{}` is unhealthy: {}", unhealthy.0, unhealthy.1.message))
        };
        let (status, message) = if deleting {
            (ApplicationState::Deleting, None)
        } else if any(DeploymentState::Updating) {
            (ApplicationState::Deploying, None)
        } else if let Some(failure) = failure {
            (ApplicationState::DeployFailed, Some(failure))
        } else if any(DeploymentState::Unhealthy) {
            (ApplicationState::Unhealthy, unwell())
        } else {
            (ApplicationState::Running, None)
        };
        ApplicationStatus { status, message: message.unwrap_or_default(), last_deployed_time_s, deployments }
    }
}

/// A deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeploymentStatus {
    /// Where it is.
    pub status: DeploymentState,
    /// What went wrong last, if something did: the reason of a rollback, of a replica's failure.
    pub message: String,
    /// The version that serves.
    pub version: String,
    /// The version that is taking over, if one is.
    pub update: Option<UpdateStatus>,
    /// Replicas there should be.
    pub target_num_replicas: usize,
    /// Requests that wait.
    pub queued: usize,
    /// How many replicas are in each state.
    pub replica_states: BTreeMap<ReplicaState, usize>,
    /// Every replica.
    pub replicas: Vec<ReplicaStatus>,
}

/// A version that is taking over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UpdateStatus {
    /// The version.
    pub version: String,
    /// Its share of the requests, 0 to 1.
    pub share: f64,
    /// Whether it keeps that share until it is promoted or rolled back.
    pub canary: bool,
}

/// A replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReplicaStatus {
    /// Its name, as in errors.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is.
    pub state: ReplicaState,
    /// Since when, in seconds since 1970.
    pub since_s: f64,
    /// How often it was started again after a failure.
    pub restarts: usize,
    /// Why it last failed.
    pub last_exit: Option<String>,
    /// When it last failed, in seconds since 1970.
    pub last_exit_s: Option<f64>,
    /// The models that it holds, of a multiplexed deployment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// What of the machine it waits for before it can start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// What a deployment's status is made of.
pub(crate) struct Facts {
    pub version: String,
    pub update: Option<(String, f64, bool)>,
    pub changing: bool,
    pub target: usize,
    pub queued: usize,
    pub message: String,
    pub replicas: Vec<ReplicaStatus>,
}

impl DeploymentStatus {
    pub(crate) fn of(facts: Facts) -> Self {
        let Facts { version, update, changing, target, queued, message, replicas } = facts;
        let mut replica_states = BTreeMap::new();
        for replica in &replicas {
            *replica_states.entry(replica.state).or_insert(0) += 1;
        }
        let has = |state| replica_states.get(&state).copied().unwrap_or(0);
        let failed = |replica: &&ReplicaStatus| {
            matches!(replica.state, ReplicaState::Recovering | ReplicaState::Starting)
                && replica.last_exit.is_some()
        };
        let unwell = replicas.iter().find(failed);
        let is_canary = update.as_ref().is_some_and(|(_, share, canary)| *canary && *share > 0.0);
        let status = if changing && !is_canary {
            DeploymentState::Updating
        } else if unwell.is_some() {
            DeploymentState::Unhealthy
        } else if has(ReplicaState::Running) < target {
            DeploymentState::Upscaling
        } else if has(ReplicaState::Stopping) > 0 {
            DeploymentState::Downscaling
        } else {
            DeploymentState::Healthy
        };
        let because = unwell
            .and_then(|replica| Some(format!("replica {}: {}", replica.name, replica.last_exit.as_ref()?)));
        let message = if message.is_empty() { because.unwrap_or_default() } else { message };
        let update = update.map(|(version, share, canary)| UpdateStatus { version, share, canary });
        DeploymentStatus {
            status,
            message,
            version,
            update,
            target_num_replicas: target,
            queued,
            replica_states,
            replicas,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn replica(state: ReplicaState, last_exit: Option<&str>) -> ReplicaStatus {
        ReplicaStatus {
            name: "m#0".into(),
            version: "1".into(),
            state,
            since_s: 0.0,
            restarts: 0,
            last_exit: last_exit.map(Into::into),
            last_exit_s: None,
            models: Vec::new(),
            waits_for: None,
        }
    }

    fn deployment(target: usize, changing: bool, replicas: Vec<ReplicaStatus>) -> DeploymentStatus {
        let (version, message) = ("1".to_owned(), String::new());
        DeploymentStatus::of(Facts { version, update: None, changing, target, queued: 0, message, replicas })
    }

    #[test]
    fn a_deployment_is_what_its_replicas_are() {
        use ReplicaState::{Recovering, Running, Starting, Stopping};
        for (target, changing, replicas, want) in [
            (1, false, vec![replica(Running, None)], DeploymentState::Healthy),
            (0, false, vec![], DeploymentState::Healthy),
            (2, false, vec![replica(Running, None), replica(Starting, None)], DeploymentState::Upscaling),
            (1, false, vec![replica(Running, None), replica(Stopping, None)], DeploymentState::Downscaling),
            (
                2,
                false,
                vec![replica(Running, None), replica(Recovering, Some("x"))],
                DeploymentState::Unhealthy,
            ),
            (1, false, vec![replica(Starting, Some("x"))], DeploymentState::Unhealthy),
            (1, false, vec![replica(Running, Some("x"))], DeploymentState::Healthy),
            (1, true, vec![replica(Running, None)], DeploymentState::Updating),
        ] {
            let status = deployment(target, changing, replicas.clone());
            assert_eq!(status.status, want, "{replicas:?}");
        }
        assert_eq!(
            deployment(1, false, vec![replica(Recovering, Some("boom"))]).message,
            "replica m#0: boom"
        );
    }

    #[test]
    fn an_application_is_what_its_deployments_are() {
        let well = deployment(1, false, vec![replica(ReplicaState::Running, None)]);
        let ill = deployment(1, false, vec![replica(ReplicaState::Recovering, Some("boom"))]);
        let busy = deployment(1, true, vec![]);
        let of = |deployments: &[&DeploymentStatus], failure: Option<&str>, deleting| {
            let deployments =
                deployments.iter().enumerate().map(|(i, it)| (i.to_string(), (*it).clone())).collect();
            let status = ApplicationStatus::of(deployments, failure.map(Into::into), deleting, 0.0);
            (status.status, status.message)
        };
        assert_eq!(of(&[&well], None, false), (ApplicationState::Running, String::new()));
        assert_eq!(of(&[&well, &busy], Some("x"), false).0, ApplicationState::Deploying);
        assert_eq!(
            of(&[&well], Some("no weights"), false),
            (ApplicationState::DeployFailed, "no weights".into())
        );
        let says = "deployment `1` is unhealthy: replica m#0: boom".to_owned();
        assert_eq!(of(&[&well, &ill], None, false), (ApplicationState::Unhealthy, says));
        assert_eq!(of(&[&ill], None, true).0, ApplicationState::Deleting);
    }

    #[test]
    fn it_is_written_in_rays_words() {
        let json =
            serde_json::to_value(deployment(1, false, vec![replica(ReplicaState::Running, None)])).unwrap();
        assert_eq!(json["status"], "HEALTHY");
        assert_eq!(json["replica_states"], serde_json::json!({"RUNNING": 1}));
        assert_eq!(json["replicas"][0]["state"], "RUNNING");
        let read: DeploymentStatus = serde_json::from_value(json).unwrap();
        assert_eq!(read.target_num_replicas, 1);
    }
}
