//! The store in this process's own memory keeps what all stores promise.
#![cfg(feature = "tokio")]

mod contract;

use samovar::StoreFailure;
use samovar::io::store::Store;
use samovar::io::store::local::LocalStore;

#[tokio::test]
async fn the_contract_holds() {
    contract::holds(&LocalStore::default()).await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let store = LocalStore::default();
    let store: &dyn Store = &store;
    store.put("k", contract::fresh("x"), None).await.unwrap();
    store.close();
    contract::failure(store.read("k").await, StoreFailure::Unreachable, "closed");
}
