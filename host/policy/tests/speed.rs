mod support;
use support::*;
#[tokio::test(flavor = "current_thread")]
async fn speed() {
    let dir = tempfile::tempdir().unwrap();
    let path = std::env::var("MODULE").unwrap();
    let mut e = entry(path);
    e.config = serde_json::json!({"rules":[{"methods":["POST"],"path":"/kernel/allocate","roles":["Operator"]}]});
    std::fs::write(dir.path().join("d.wasm"), denier("no_one")).unwrap();
    let host = host(settings(dir.path(), [("rbac", e), ("d", entry("d.wasm"))]));
    println!("{:?}", host.load().await);
    let req = request();
    println!("{:?}", host.decide("rbac", &req).await);
    println!("{:?}", host.decide("d", &req).await);
    for name in ["rbac", "d"] {
        let mut t = vec![];
        for _ in 0..100_000 { let s = std::time::Instant::now(); let _ = host.decide(name, &req).await; t.push(s.elapsed()); }
        println!("{name} p50 {:?} p99 {:?} p999 {:?}", quantile(&mut t, 0.5), quantile(&mut t, 0.99), quantile(&mut t, 0.999));
    }
}
