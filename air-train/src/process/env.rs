//! What a rank's process finds in its environment.

use std::net::TcpListener;

use serde_json::json;

/// The addresses of a group on this host: one for the rendezvous, one for each rank.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    master: u16,
    workers: Vec<u16>,
}

impl Addresses {
    /// Ports that are free now. All are held until the last is known, so that none is given twice.
    pub(super) fn free(world: usize) -> std::io::Result<Self> {
        let held = (0..=world).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let ports: Result<Vec<u16>, _> = held.iter().map(|l| l.local_addr().map(|a| a.port())).collect();
        let mut ports = ports?;
        let master = ports.remove(0);
        Ok(Self { master, workers: ports })
    }

    /// The variables of PyTorch's, TensorFlow's and JAX's launchers.
    pub(super) fn of_rank(&self, rank: usize) -> Vec<(&'static str, String)> {
        let world = self.workers.len();
        let workers: Vec<String> = self.workers.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let cluster = json!({"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}});
        vec![
            ("RANK", rank.to_string()),
            ("LOCAL_RANK", rank.to_string()),
            ("WORLD_SIZE", world.to_string()),
            ("LOCAL_WORLD_SIZE", world.to_string()),
            ("MASTER_ADDR", "127.0.0.1".to_owned()),
            ("MASTER_PORT", self.master.to_string()),
            ("TF_CONFIG", cluster.to_string()),
        ]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Addresses;

    #[test]
    fn every_rank_knows_itself_and_the_others() {
        let addresses = Addresses::free(3).unwrap();
        let env: std::collections::HashMap<_, _> = addresses.of_rank(2).into_iter().collect();
        assert_eq!(
            (env["RANK"].as_str(), env["LOCAL_RANK"].as_str(), env["WORLD_SIZE"].as_str()),
            ("2", "2", "3")
        );
        let cluster: serde_json::Value = serde_json::from_str(&env["TF_CONFIG"]).unwrap();
        assert_eq!(cluster["task"], serde_json::json!({"type": "worker", "index": 2}));
        let workers = cluster["cluster"]["worker"].as_array().unwrap();
        assert_eq!(workers.len(), 3);
        assert!(workers.iter().all(|w| w.as_str().unwrap().starts_with("127.0.0.1:")));
        assert!(!workers.contains(&format!("127.0.0.1:{}", env["MASTER_PORT"]).into()));
    }
}
