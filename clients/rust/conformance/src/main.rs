//! The runner of the Rust SDK: see tests/conformance/README.md for what it is told and answers.

mod by_name;
mod runner;

use std::io::{BufRead, Write};

use serde_json::{Value, json};

use runner::{Runner, Trouble};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut lines = std::io::stdin().lock().lines();
    let hello: Value = serde_json::from_str(&lines.next().ok_or("no line came")??)?;
    let mut runner = Runner::new(&hello["hello"])?;
    write(&json!({"ready": {"sdk": restante::VERSION, "runtime": "tonic 0.14", "encoding": "protobuf"}}))?;
    for line in lines {
        let asked: Value = serde_json::from_str(&line?)?;
        // The next line comes after the answer, so that waiting for it may block nobody.
        let mut answer = match runner.answer(&asked).await {
            Ok(result) => json!({"result": result}),
            Err(Trouble::Sdk(error)) => json!({"error": runner::shown_error(&error)}),
            Err(Trouble::Runner(fault)) => return Err(fault),
        };
        answer["id"] = asked["id"].clone();
        write(&answer)?;
    }
    Ok(())
}

/// Sends one line to the judge.
fn write(line: &Value) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}
