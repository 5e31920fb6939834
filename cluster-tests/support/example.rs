// Hidden in the examples of the documentation: runs one against a node of its own, in this process.

pub type Problem = Box<dyn std::error::Error>;

pub fn example(run: impl AsyncFnOnce(&str) -> Result<(), Problem>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let problem = runtime.block_on(async {
        let (port, peer_port) = (free_port()?, free_port()?);
        let settings = cachegopher::node::settings::RawSettings {
            port: Some(port),
            peer_port: Some(peer_port),
            shards: Some(2),
            ..Default::default()
        };
        let node = cachegopher::node::Node::start(settings.check()?).await?;
        run(&node.addresses().client.to_string()).await
    });
    problem.expect("the example runs");
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
