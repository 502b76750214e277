//! Fetching as both sides see it: what the store's errors are called on the bus, and whether the connection is metered.

use std::time::Duration;

use eddy_ipc::Error;
use zbus::proxy;

/// How long NetworkManager may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The error that a caller gets for one of the store's.
#[must_use]
pub fn refusal(error: &eddy_store::Error) -> Error {
    use eddy_store::Error as Store;
    let sentence = error.to_string();
    match error {
        Store::UnknownModel { .. } | Store::NotOnHub { .. } | Store::NotHere { .. } => Error::NotFound(sentence),
        Store::BadName { .. } => Error::InvalidArgument(sentence),
        Store::LicenseNotAccepted { .. } | Store::Metered { .. } => Error::NotPermitted(sentence),
        Store::WrongLength { .. }
        | Store::WrongHash { .. }
        | Store::Escapes { .. }
        | Store::Malformed { .. }
        | Store::NoModel { .. }
        | Store::Model(_) => Error::InvalidContent(sentence),
        Store::InTheWay { .. } => Error::Exists(sentence),
        Store::NoSpace { .. } => Error::TooLarge(sentence),
        Store::Cancelled => Error::Cancelled(sentence),
        _ => Error::Unavailable(sentence),
    }
}

/// NetworkManager's word on the connection.
#[proxy(
    interface = "org.freedesktop.NetworkManager",
    default_service = "org.freedesktop.NetworkManager",
    default_path = "/org/freedesktop/NetworkManager"
)]
trait NetworkManager {
    /// 0 unknown, 1 yes, 2 no, 3 probably, 4 probably not.
    #[zbus(property)]
    fn metered(&self) -> zbus::Result<u32>;
}

/// Whether the connection costs money by the byte. Where nobody can tell, it does not.
#[must_use]
pub fn is_metered() -> bool {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return false };
    let ask = async {
        let bus = zbus::connection::Builder::system().method_timeout(PATIENCE).build().await?;
        NetworkManagerProxy::new(&bus).await?.metered().await
    };
    let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask).await });
    matches!(asked, Ok(Ok(1 | 3)))
}
