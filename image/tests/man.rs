//! docs/man/ironhook-image.1 is what the command line says.

use clap::CommandFactory as _;

#[test]
fn the_manual_page_is_that_of_the_command_line() {
    assert_eq!(man::check(image::cli::Cli::command()), Ok(()));
}
