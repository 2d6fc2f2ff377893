//! What can be shown without an engine; what needs one is in `tests/docker.rs`.

use super::*;

#[test]
fn only_a_missing_container_is_missing() {
    let error = |status_code, message: &str| Error::DockerResponseServerError { status_code, message: message.into() };
    assert!(is_missing(&error(404, "No such container: abc")));
    assert!(!is_missing(&error(404, "No such image: abc")));
    assert!(!is_missing(&error(500, "No such container: abc")));
}

#[tokio::test]
async fn an_engine_that_never_answers_is_a_failure_that_names_it() {
    let sockets = [PathBuf::from("/nonexistent/docker.sock")];
    let failure = engine::ready(&sockets, Some(Duration::ZERO)).await.unwrap_err();
    assert_eq!(failure.code, "engine");
    assert!(failure.message.contains("/nonexistent/docker.sock"), "{}", failure.message);
}
