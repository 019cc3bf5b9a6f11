//! Where the coordinator starts, where it refuses to, and what tells that it runs.

use darwin_coordinator::{Server, ServerError};

use crate::support::{Place, config, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_only_where_it_is_safe() {
    let folder = tempfile::tempdir().unwrap();
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7000"] {
        match Server::start(config(folder.path(), open)).await {
            Err(why @ ServerError::Config(_)) => assert!(why.to_string().contains("TLS"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let place = Place::new().await;
    match Server::start(config(place.folder.path(), "127.0.0.1:0")).await {
        Err(why @ ServerError::Ledger(_)) => assert!(why.to_string().contains("in use"), "{why}"),
        other => panic!("{other:?}"),
    }
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    match Server::start(config(folder.path(), &address)).await {
        Err(why @ ServerError::Listen { .. }) => assert!(why.to_string().contains(&address), "{why}"),
        other => panic!("{other:?}"),
    }
    let lease = darwin_coordinator::CoordinatorConfig {
        lease: std::time::Duration::ZERO,
        ..config(folder.path(), "127.0.0.1:0")
    };
    match Server::start(lease).await {
        Err(why @ ServerError::Config(_)) => assert!(why.to_string().contains("--lease"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_reflection_answer() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let place = Place::new().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(place.channel());
    for service in ["", "darwin.v1.Jobs", "darwin.v1.AgentLink"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(place.channel());
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let answer = soon("the reflection", answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    for service in ["Jobs", "Agents", "Artifacts", "AgentLink", "Verdicts"] {
        assert!(list.service.iter().any(|known| known.name == format!("darwin.v1.{service}")), "{service}");
    }
}
