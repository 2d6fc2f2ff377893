//! Both workflow services have a method `ReportActionStatus` under one path, with different messages (wire reference
//! §12.2). Tells by the types of their fields which is meant. Pure; whatever comes in, it answers.

/// Bytes before the message: whether it is compressed, and its length.
const HEAD: usize = 5;
const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// Whether a request's body holds the newer message. What says nothing either way is classic.
pub fn is_newer(body: &[u8]) -> bool {
    let Some((head, mut message)) = body.split_at_checked(HEAD) else { return false };
    // No worker of either generation compresses.
    if head[0] != 0 {
        return false;
    }
    while let Some((key, rest)) = varint(message) {
        match (key >> 3, key & 7) {
            (4 | 5, VARINT) | (6, BYTES) => return false,
            (4 | 5, BYTES) | (6, VARINT) => return true,
            _ => {}
        }
        match skip(key & 7, rest) {
            Some(rest) => message = rest,
            None => return false,
        }
    }
    false
}

/// A message without some of its fields; nothing from where it cannot be read on.
pub fn without(message: &[u8], fields: &[u64]) -> Vec<u8> {
    let (mut kept, mut left) = (Vec::new(), message);
    while let Some(rest) = varint(left).and_then(|(key, rest)| skip(key & 7, rest)) {
        let field = &left[..left.len() - rest.len()];
        if varint(field).is_some_and(|(key, _)| !fields.contains(&(key >> 3))) {
            kept.extend_from_slice(field);
        }
        left = rest;
    }
    kept
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (n, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[n + 1..]));
        }
    }
    None
}

fn skip(kind: u64, bytes: &[u8]) -> Option<&[u8]> {
    match kind {
        VARINT => varint(bytes).map(|(_, rest)| rest),
        1 => bytes.get(8..),
        BYTES => {
            let (length, rest) = varint(bytes)?;
            rest.get(usize::try_from(length).ok()?..)
        }
        5 => bytes.get(4..),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::agent::{ActionMessage, ActionStatusRequest, StateType};
    use proto::workflow::{State, WorkflowActionStatus};

    use super::*;

    fn framed(message: &impl prost::Message) -> Vec<u8> {
        let bytes = message.encode_to_vec();
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[0], &length[..], &bytes].concat()
    }

    proptest! {
        #[test]
        fn the_two_are_told_apart(
            ids in proptest::array::uniform4(".{0,20}"), state in 1..5_i32, seconds in any::<i64>(), words in ".{0,40}",
        ) {
            let [workflow_id, task, action, worker] = ids;
            let classic = WorkflowActionStatus {
                workflow_id: workflow_id.clone(), task_name: task.clone(), action_name: action.clone(),
                action_status: state, seconds, message: words.clone(), created_at: None, worker_id: worker.clone(),
            };
            prop_assert!(!is_newer(&framed(&classic)));
            let newer = ActionStatusRequest {
                workflow_id, agent_id: worker, task_id: task, action_id: action.clone(), action_name: action,
                action_state: state, message: Some(ActionMessage { message: words }), ..ActionStatusRequest::default()
            };
            prop_assert!(is_newer(&framed(&newer)));
        }

        #[test]
        fn anything_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            is_newer(&bytes);
        }
    }

    #[test]
    fn the_shortest_of_each_are_told_apart() {
        let classic = WorkflowActionStatus { action_status: State::Running.into(), ..Default::default() };
        assert!(!is_newer(&framed(&classic)));
        let newer = ActionStatusRequest { action_state: StateType::Running.into(), ..Default::default() };
        assert!(is_newer(&framed(&newer)));
        assert!(!is_newer(b"") && !is_newer(&[1, 0, 0, 0, 2, 0x30, 1]));
    }
}
