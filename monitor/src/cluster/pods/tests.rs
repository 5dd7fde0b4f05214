//! The client against an API server that plays a script over a real socket.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::enrich::{Place, WorkloadNames as _};

/// One answer: the status, and lines that are sent one after the other.
pub(in super::super) struct Answer(pub(in super::super) u16, pub(in super::super) Vec<String>);

/// Serves the answers in order and tells what was asked; the last answer's connection stays open.
pub(in super::super) fn serve(answers: Vec<Answer>) -> (ApiServer, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, requests) = channel();
    std::thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        let last = answers.len();
        for (at, Answer(status, lines)) in answers.into_iter().enumerate() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut head).unwrap() > 2 {}
            asked.send(head).unwrap();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            for line in lines {
                write!(stream, "{:x}\r\n{line}\n\r\n", line.len() + 1).unwrap();
            }
            if at + 1 == last {
                open.push(stream);
            } else {
                write!(stream, "0\r\n\r\n").unwrap();
            }
        }
        std::thread::sleep(Duration::from_secs(30));
        drop(open);
    });
    let api = ApiServer { url, node: "node-1".into(), token_file: None, ca_file: None };
    (api, requests)
}

fn pod(uid: &str, name: &str, version: u32) -> Value {
    json!({
        "metadata": {"uid": uid, "name": name, "namespace": "training",
                     "resourceVersion": version.to_string(), "labels": {"app": name}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "x"}]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "main", "containerID": format!("containerd://{uid}-c"), "ready": true}]},
    })
}

fn event(kind: &str, object: &Value) -> String {
    json!({"type": kind, "object": object}).to_string()
}

/// The names of a pod, as soon as they are known.
fn named(directory: &Directory, uid: &str) -> Arc<Names> {
    let place = Place { pod_uid: Some(uid.to_owned()), ..Place::default() };
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(names) = directory.names(&place) {
            return names;
        }
        assert!(Instant::now() < deadline, "{uid} is not known: {:?}", directory.sources());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(api: ApiServer) -> Arc<Directory> {
    let directory = Arc::new(Directory::new(false).0);
    let followed = Arc::clone(&directory);
    std::thread::spawn(move || follow(&api, &followed));
    directory
}

#[test]
fn list_watch_bookmark_and_a_new_list_when_the_watch_fell_behind() {
    let page = |next: &str, version: u32, items: Vec<Value>| {
        json!({"metadata": {"resourceVersion": version.to_string(), "continue": next},
               "items": items})
        .to_string()
    };
    let bookmark = json!({"metadata": {"resourceVersion": "77"}});
    let gone = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired"});
    let (api, requests) = serve(vec![
        Answer(200, vec![page("more", 10, vec![pod("u1", "first", 9)])]),
        Answer(200, vec![page("", 10, vec![pod("u2", "second", 10)])]),
        Answer(
            200,
            vec![
                event("ADDED", &pod("u3", "third", 20)),
                event("MODIFIED", &pod("u1", "renamed", 21)),
                event("DELETED", &pod("u2", "second", 22)),
                "not an event".to_owned(),
                event("BOOKMARK", &bookmark),
            ],
        ),
        Answer(200, vec![event("ERROR", &gone)]),
        Answer(200, vec![page("", 90, vec![pod("u4", "fourth", 90)])]),
        Answer(200, vec![event("ADDED", &pod("u5", "fifth", 91))]),
    ]);
    let directory = start(api);
    let fifth = named(&directory, "u5");
    assert_eq!(fifth.namespace.as_deref(), Some("training"));
    assert_eq!(fifth.pod.as_deref(), Some("fifth"));
    assert_eq!(fifth.labels.get("app").map(String::as_str), Some("fifth"));
    assert_eq!(fifth.containers.get("u5-c").map(String::as_str), Some("main"));
    let name = |uid: &str| named(&directory, uid).pod.clone().unwrap();
    assert_eq!(
        (name("u1"), name("u3"), name("u4")),
        ("renamed".into(), "third".into(), "fourth".into())
    );
    assert_eq!(name("u2"), "second", "what was deleted stays known for its last events");
    assert_eq!(directory.sources(), [("kubernetes_api", SourceState::Active)]);

    let asked: Vec<String> = requests.try_iter().collect();
    let says = |at: usize, what: &str| assert!(asked[at].contains(what), "{at}: {}", asked[at]);
    says(0, "fieldSelector=spec.nodeName%3Dnode-1");
    says(1, "continue=more");
    says(2, "resourceVersion=10");
    says(2, "allowWatchBookmarks=true");
    says(3, "resourceVersion=77");
    assert!(!asked[4].contains("watch=true"), "a new list: {}", asked[4]);
    says(5, "resourceVersion=90");
}

#[test]
fn a_refusal_says_what_the_account_needs() {
    let (api, _requests) = serve(vec![Answer(403, vec!["{}".into()])]);
    let directory = start(api);
    let deadline = Instant::now() + Duration::from_secs(20);
    let why = loop {
        if let Some((_, SourceState::Off(why))) = directory.sources().pop() {
            break why;
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(why.contains("answered 403") && why.contains("list and watch on pods"), "{why}");
}

#[test]
fn a_static_pod_is_known_by_its_config_hash() {
    let directory = Directory::new(false).0;
    let mut object = pod("u1", "kube-proxy-node-1", 3);
    object["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": "abc123"});
    let line = event("ADDED", &object);
    assert_eq!(take_event(line.as_bytes(), &directory).unwrap().as_deref(), Some("3"));
    assert_eq!(named(&directory, "abc123").pod.as_deref(), Some("kube-proxy-node-1"));
}

#[test]
fn the_token_is_read_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "first\n").unwrap();
    let empty = || Answer(200, vec![json!({"metadata": {}, "items": []}).to_string()]);
    let (api, requests) = serve(vec![empty(), empty(), empty()]);
    let api = ApiServer { token_file: Some(token_file.clone()), ..api };
    let agent = agent(&api).unwrap();
    let directory = Directory::new(false).0;
    list(&api, &agent, &directory).unwrap();
    std::fs::write(&token_file, "second\n").unwrap();
    list(&api, &agent, &directory).unwrap();
    let asked: Vec<String> = requests.try_iter().collect();
    assert!(asked[0].to_lowercase().contains("authorization: bearer first\r\n"), "{}", asked[0]);
    assert!(asked[1].to_lowercase().contains("authorization: bearer second\r\n"), "{}", asked[1]);
}

#[test]
fn outside_of_kubernetes_nothing_is_asked() {
    let env = |name: &str| match name {
        "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
        "NODE_NAME" => Some("node-1".to_owned()),
        _ => None,
    };
    let api = ApiServer::in_cluster(env, None).unwrap();
    assert_eq!((api.url.as_str(), api.node.as_str()), ("https://[fd00::1]:443", "node-1"));
    assert_eq!(ApiServer::in_cluster(|_| None, Some("node-1".into())), None);
}
