//! log
#[tokio::test]
async fn x() {
    let d = crate::support::postgres::Database::new().await;
    d.pool("dunningd_app").await;
}
