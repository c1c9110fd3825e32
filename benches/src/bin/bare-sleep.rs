//! A program that does nothing: what the supervisor's memory is set beside.

fn main() {
    loop {
        std::thread::park();
    }
}
