//! Eight callers at once for some seconds; `make soak-bus` lets them go on for ten minutes.

use std::time::Duration;

#[tokio::test]
async fn nobody_starves_and_nothing_grows() {
    let time = Duration::from_secs(6);
    let account = eddy_tests::load::eight_callers(time).await;
    println!("{account:#?}");
    account.check(time);
}
