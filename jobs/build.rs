fn main() {
    // `sqlx::migrate!` reads this folder; cargo does not see a new file in it by itself.
    println!("cargo:rerun-if-changed=../migrations");
}
