//! RLlink's messages, in MessagePack (as RLlib sends them) or JSON (as its documentation has them).

use std::fmt;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::array::Array;
use super::frame::LinkError;

/// Values in values, at most.
const DEPTH: usize = 32;

/// What a client asks.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Ping,
    GetConfig,
    GetState,
    Episodes(Played),
    EpisodesAndGetState(Played),
}

/// What was played.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Played {
    pub episodes: Vec<Piece>,
    /// The weights it was played with; the last ones sent, if the client does not say.
    pub weights_seq_no: Option<u64>,
}

/// A message as it is written. One flat record: a tagged union would be held in memory twice. What is not known is passed over.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    episodes: Vec<Piece>,
    #[serde(default)]
    weights_seq_no: Option<u64>,
}

/// An episode, or the next part of one that has not ended.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct Piece {
    #[serde(alias = "observations")]
    pub obs: Array,
    pub actions: Array,
    pub rewards: Array,
    pub is_terminated: bool,
    pub is_truncated: bool,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Reply {
    Pong,
    SetConfig {
        env_steps_per_sample: usize,
        force_on_policy: bool,
    },
    SetState {
        weights_seq_no: u64,
        /// Base64 of gzip.
        onnx_file: String,
        /// Log standard deviations of continuous actions.
        #[serde(skip_serializing_if = "Option::is_none")]
        log_std: Option<Vec<f32>>,
    },
    /// Of our own: why the connection is closed.
    Error {
        message: String,
    },
}

/// How a message is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    MessagePack,
    Json,
}

/// How a message is written. None in MessagePack begins like one in JSON: a map's first byte is not ASCII.
pub(super) fn coding(body: &[u8]) -> Coding {
    if body.first().is_some_and(u8::is_ascii) { Coding::Json } else { Coding::MessagePack }
}

/// A request.
pub(super) fn read(body: &[u8]) -> Result<Request, LinkError> {
    let message: Result<Message, String> = match coding(body) {
        Coding::Json => serde_json::from_slice(body).map_err(|e| e.to_string()),
        Coding::MessagePack => {
            let mut reader = rmp_serde::Deserializer::from_read_ref(body);
            reader.set_max_depth(DEPTH);
            Message::deserialize(&mut reader).map_err(|e| e.to_string())
        }
    };
    let Message { kind, episodes, weights_seq_no } = message.map_err(LinkError::Body)?;
    let played = Played { episodes, weights_seq_no };
    match kind.as_str() {
        "PING" => Ok(Request::Ping),
        "GET_CONFIG" => Ok(Request::GetConfig),
        "GET_STATE" => Ok(Request::GetState),
        "EPISODES" => Ok(Request::Episodes(played)),
        "EPISODES_AND_GET_STATE" => Ok(Request::EpisodesAndGetState(played)),
        other => {
            let other: String = other.chars().take(64).collect();
            Err(LinkError::Message(format!(
                "a message of the type `{other}`; read are PING, GET_CONFIG, GET_STATE, EPISODES, EPISODES_AND_GET_STATE"
            )))
        }
    }
}

/// A reply, written as the request was.
pub(super) fn write(reply: &Reply, coding: Coding) -> Result<Vec<u8>, LinkError> {
    let failed = |e: &dyn fmt::Display| LinkError::Body(e.to_string());
    match coding {
        Coding::Json => serde_json::to_vec(reply).map_err(|e| failed(&e)),
        Coding::MessagePack => rmp_serde::to_vec_named(reply).map_err(|e| failed(&e)),
    }
}

/// A file in text: base64 of gzip.
pub(super) fn packed(file: &[u8]) -> Result<String, LinkError> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(file)?;
    Ok(STANDARD.encode(gzip.finish()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn both_codings_say_the_same() {
        let text = r#"{"episodes": [{"obs": [[[1, 2], [3, 4.5]], [5, 6, 7, 8]], "actions": [1], "rewards": [0.5], "is_terminated": true,
             "is_truncated": false, "more": null}], "env_steps": 1, "weights_seq_no": 3, "type": "EPISODES_AND_GET_STATE"}"#;
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let packed = rmp_serde::to_vec(&value).unwrap();
        assert_eq!((coding(text.as_bytes()), coding(&packed)), (Coding::Json, Coding::MessagePack));
        let json = read(text.as_bytes()).unwrap();
        assert_eq!(json, read(&packed).unwrap());
        let Request::EpisodesAndGetState(played) = json else { panic!("{json:?}") };
        assert_eq!(played.weights_seq_no, Some(3));
        let [piece] = &played.episodes[..] else { panic!("one episode") };
        assert_eq!(
            (piece.obs.row(0), piece.obs.row(1)),
            (&[1.0, 2.0, 3.0, 4.5][..], &[5.0, 6.0, 7.0, 8.0][..])
        );
        assert_eq!((piece.actions.row(0), piece.rewards.row(0)), (&[1.0][..], &[0.5][..]));
    }

    #[test]
    fn replies_are_maps_with_their_type() {
        let reply = Reply::SetConfig { env_steps_per_sample: 512, force_on_policy: true };
        let want =
            serde_json::json!({"type": "SET_CONFIG", "env_steps_per_sample": 512, "force_on_policy": true});
        let json = write(&reply, Coding::Json).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&json).unwrap(), want);
        let packed = write(&reply, Coding::MessagePack).unwrap();
        assert_eq!(rmp_serde::from_slice::<serde_json::Value>(&packed).unwrap(), want);
        assert_eq!(write(&Reply::Pong, Coding::Json).unwrap(), br#"{"type":"PONG"}"#);
    }

    #[test]
    fn what_is_no_message_is_said() {
        let says = |body: &[u8]| read(body).unwrap_err().to_string();
        assert!(
            says(br#"{"type": "START_EPISODE"}"#)
                .starts_with("a message of the type `START_EPISODE`; read are PING")
        );
        assert!(says(b"{}").contains("missing field `type`"));
        for body in [&b""[..], b"\x91\x01", b"\xdf\xff\xff\xff\xff", b"{", b"\xff\xfe", b"[1]"] {
            assert!(says(body).contains("cannot read the message"), "{body:?}");
        }
        // Arrays in arrays without end, where nobody looks.
        let deep = [b"\x82\xa4type\xa4PING\xa1x".to_vec(), vec![0x91; 100_000]].concat();
        assert!(says(&deep).contains("cannot read the message"));
    }
}
