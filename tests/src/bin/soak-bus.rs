//! Eight callers at once for as many seconds as the first argument says, ten minutes otherwise.

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(600);
    let time = std::time::Duration::from_secs(seconds);
    let account = eddy_tests::load::eight_callers(time).await;
    println!("{account:#?}");
    account.check(time);
    println!("nobody starved, nothing grew");
}
