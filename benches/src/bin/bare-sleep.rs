//! A program that does nothing: the anchor of the supervisor's memory.

fn main() {
    loop {
        std::thread::park();
    }
}
