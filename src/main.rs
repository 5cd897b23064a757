//! Temporary.
fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut c = rollcall::config::Config::default_dev();
        c.database_url = std::env::args().nth(1).unwrap();
        c.listen = std::env::args().nth(2).unwrap().parse().unwrap();
        rollcall::server::run(c).await.unwrap();
    });
}
