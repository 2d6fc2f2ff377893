//! Changes at the same time.

use std::sync::Arc;

use axum::extract::{Json, State};
use axum::http::StatusCode;

use super::{Api, apply};
use crate::activity::ActivityLog;
use crate::apply::{File, Request};
use crate::engine::Engine;
use crate::ephemeral::Ephemeral;
use crate::soft::Soft;
use crate::store::Store;
use crate::store::redb::RedbStore;

#[tokio::test]
async fn of_two_machines_with_one_address_one_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&dir.path().join("s")).unwrap());
    let (machines, _keeper) = crate::machines::open(Arc::clone(&store), Arc::default()).unwrap();
    let (soft, ephemeral) = (Arc::new(Soft::new(dir.path())), Arc::new(Ephemeral::new(dir.path())));
    let engine = Engine { store, activity: Arc::new(ActivityLog::new()), machines, soft, ephemeral };
    let (_trigger, shutdown) = crate::shutdown::pair();
    let api = Api { engine, shutdown, writing: Arc::default() };
    let send = |name: &str| {
        let text = format!(
            "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: {name}}}\n\
             spec: {{interfaces: [{{dhcp: {{mac: 52:54:00:aa:00:01}}}}]}}\n"
        );
        let files = vec![File { name: "h.yaml".into(), text }];
        apply::apply(State(api.clone()), Ok(Json(Request { files })))
    };
    let (first, second) = tokio::join!(send("m1"), send("m2"));
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY));
}
