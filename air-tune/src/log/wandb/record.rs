//! The transaction log of a run as Weights & Biases keeps it: messages of protocol buffers in the framing of LevelDB's log.
//!
//! A file begins with `:W&B`, 0xBEE1 and the version 0. Then come blocks of 32 KiB of fragments: a CRC-32 of kind and data (u32), the length (u16), the kind (u8: 1 whole, 2 first, 3 middle, 4 last), the
//! data; numbers are little-endian. Less than seven bytes at the end of a block are zeros. A message is a `Record` of `wandb_internal.proto`; its fields are named where they are written.

/// What every file begins with.
pub(super) const HEADER: [u8; 7] = [b':', b'W', b'&', b'B', 0xE1, 0xBE, 0];
const BLOCK: usize = 32 * 1024;
const FRAGMENT: usize = 7;

/// The bytes that append a message to a file of `length` bytes.
pub(super) fn framed(length: u64, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 2 * FRAGMENT);
    let (mut rest, mut first) = (message, true);
    loop {
        let mut room = BLOCK - (length as usize + out.len()) % BLOCK;
        if room < FRAGMENT {
            out.resize(out.len() + room, 0);
            room = BLOCK;
        }
        let (data, after) = rest.split_at(rest.len().min(room - FRAGMENT));
        let kind = match (first, after.is_empty()) {
            (true, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
            (false, true) => 4,
        };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&[kind]);
        crc.update(data);
        out.extend_from_slice(&crc.finalize().to_le_bytes());
        out.extend_from_slice(&(data.len() as u16).to_le_bytes());
        out.push(kind);
        out.extend_from_slice(data);
        if after.is_empty() {
            return out;
        }
        (rest, first) = (after, false);
    }
}

/// How many messages a file holds whole, and where the last of them ends; nothing, if it is no such file.
pub(super) fn whole(file: &[u8]) -> Option<(u64, u64)> {
    if !file.starts_with(&HEADER) {
        return None;
    }
    let (mut at, mut end, mut count) = (HEADER.len(), HEADER.len(), 0);
    loop {
        let room = BLOCK - at % BLOCK;
        if room < FRAGMENT {
            at += room;
        }
        let Some(head) = file.get(at..at + FRAGMENT) else { break };
        let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let Some(data) = file.get(at + FRAGMENT..at + FRAGMENT + length) else { break };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[6..]);
        crc.update(data);
        if crc.finalize().to_le_bytes() != head[..4] {
            break;
        }
        at += FRAGMENT + length;
        if matches!(head[6], 1 | 4) {
            (end, count) = (at, count + 1);
        }
    }
    Some((count, end as u64))
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A number as a field.
fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

/// A text or a message as a field.
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// `HistoryItem`, `SummaryItem` or `ConfigItem`: `key` 1, `value_json` 16. What is written may be `NaN`, `Infinity` and `-Infinity` besides JSON.
fn item(out: &mut Vec<u8>, field: u64, key: &str, json: &str) {
    let mut one = Vec::new();
    bytes(&mut one, 1, key.as_bytes());
    bytes(&mut one, 16, json.as_bytes());
    bytes(out, field, &one);
}

/// `Record`: `num` 1, and one of many kinds.
fn record(num: u64, field: u64, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 16);
    number(&mut out, 1, num);
    bytes(&mut out, field, message);
    out
}

/// What a run is.
pub(super) struct Run<'a> {
    pub id: &'a str,
    pub project: &'a str,
    pub group: &'a str,
    pub name: &'a str,
    /// Seconds since 1970.
    pub started: f64,
}

/// `Record.header` 21: `version_info` 1 with `producer` 1, `min_consumer` 2.
pub(super) fn header(num: u64) -> Vec<u8> {
    let (mut version, mut message) = (Vec::new(), Vec::new());
    bytes(&mut version, 1, b"air-tune");
    bytes(&mut version, 2, b"0.40.0");
    bytes(&mut message, 1, &version);
    record(num, 21, &message)
}

/// `Record.run` 17: `run_id` 1, `project` 3, `config` 4, `run_group` 6, `display_name` 8, `start_time` 17.
pub(super) fn run(num: u64, run: &Run<'_>, config: &[(&str, String)]) -> Vec<u8> {
    let mut message = Vec::new();
    bytes(&mut message, 1, run.id.as_bytes());
    bytes(&mut message, 3, run.project.as_bytes());
    bytes(&mut message, 4, &updates(config));
    bytes(&mut message, 6, run.group.as_bytes());
    bytes(&mut message, 8, run.name.as_bytes());
    let mut time = Vec::new();
    number(&mut time, 1, run.started as u64);
    number(&mut time, 2, (run.started.fract() * 1e9) as u64);
    bytes(&mut message, 17, &time);
    record(num, 17, &message)
}

/// `ConfigRecord` and `SummaryRecord`: `update` 1.
fn updates(values: &[(&str, String)]) -> Vec<u8> {
    let mut message = Vec::new();
    for (key, json) in values {
        item(&mut message, 1, key, json);
    }
    message
}

/// `Record.config` 5.
pub(super) fn config(num: u64, values: &[(&str, String)]) -> Vec<u8> {
    record(num, 5, &updates(values))
}

/// `Record.summary` 3.
pub(super) fn summary(num: u64, values: &[(&str, String)]) -> Vec<u8> {
    record(num, 3, &updates(values))
}

/// `Record.history` 2: `item` 1, `step` 2 with `num` 1.
pub(super) fn history(num: u64, step: u64, values: &[(&str, String)]) -> Vec<u8> {
    let (mut message, mut steps) = (updates(values), Vec::new());
    number(&mut steps, 1, step);
    bytes(&mut message, 2, &steps);
    record(num, 2, &message)
}

/// `Record.exit` 18: `exit_code` 1, `runtime` 2.
pub(super) fn exit(num: u64, code: u64, seconds: f64) -> Vec<u8> {
    let mut message = Vec::new();
    number(&mut message, 1, code);
    number(&mut message, 2, seconds as u64);
    record(num, 18, &message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_has_these_bytes() {
        let message = history(3, 300, &[("loss", "0.5".into())]);
        #[rustfmt::skip]
        let expected = [
            0x08, 3,                                         // num
            0x12, 19,                                        // history
            0x0A, 12, 0x0A, 4, b'l', b'o', b's', b's',       // item: key
            0x82, 0x01, 3, b'0', b'.', b'5',                 // value_json
            0x12, 3, 0x08, 0xAC, 0x02,                       // step
        ];
        assert_eq!(message, expected);
        let mut file = HEADER.to_vec();
        file.extend(framed(7, &message));
        // The checksum that zlib gives, 23 bytes, whole.
        assert_eq!(file[7..14], [83, 37, 243, 168, 23, 0, 1]);
        assert_eq!(whole(&file), Some((1, file.len() as u64)));
    }

    #[test]
    fn a_block_that_has_no_room_for_a_fragment_ends_in_zeros() {
        // Leaves six bytes of the first block.
        let first = framed(7, &vec![1; BLOCK - 7 - FRAGMENT - 6]);
        let length = 7 + first.len() as u64;
        assert_eq!(length as usize, BLOCK - 6);
        let second = framed(length, b"x");
        assert_eq!((&second[..6], second.len()), (&[0; 6][..], 6 + FRAGMENT + 1));
        // Room for a fragment of nothing: a first part without data.
        let first = framed(7, &vec![1; BLOCK - 7 - 2 * FRAGMENT]);
        let second = framed(7 + first.len() as u64, b"x");
        assert_eq!((second[6], second[4], second[FRAGMENT + 6], second.len()), (2, 0, 4, 2 * FRAGMENT + 1));
    }

    proptest! {
        /// What is written is found whole, wherever blocks end; what is torn ends before the message that is.
        #[test]
        fn messages_are_found_again_up_to_where_the_file_was_torn(
            sizes in prop::collection::vec(prop_oneof![0_usize..50, 30_000_usize..70_000], 1..6),
            torn in 0.0..1.0_f64,
        ) {
            let (mut file, mut ends) = (HEADER.to_vec(), vec![7_u64]);
            for (at, size) in sizes.iter().enumerate() {
                let message: Vec<u8> = (0..*size).map(|byte| (byte + at) as u8).collect();
                file.extend(framed(file.len() as u64, &message));
                ends.push(file.len() as u64);
            }
            prop_assert_eq!(whole(&file), Some((sizes.len() as u64, file.len() as u64)));
            let cut = 7 + ((file.len() - 7) as f64 * torn) as usize;
            let kept = ends.iter().filter(|end| **end <= cut as u64).count() - 1;
            prop_assert_eq!(whole(&file[..cut]), Some((kept as u64, ends[kept])));
            prop_assert_eq!(whole(b"no such file"), None);
        }
    }
}
