// The runner of the C++ SDK: see tests/conformance/README.md for what it is told and answers.
#include <grpcpp/grpcpp.h>

#include <exception>
#include <iostream>
#include <string>

#include "restante/version.h"
#include "runner.h"

namespace {

void write(const conformance::Json& line) { std::cout << line.dump() << std::endl; }

}  // namespace

int main() {
  try {
    std::string line;
    std::getline(std::cin, line);
    conformance::Runner runner(conformance::Json::parse(line).at("hello"));
    const std::string runtime = "gRPC " + grpc::Version() + ", g++ " + __VERSION__;
    write({{"ready", {{"sdk", RESTANTE_VERSION}, {"runtime", runtime}, {"encoding", "json"}}}});
    while (std::getline(std::cin, line)) {
      const auto command = conformance::Json::parse(line);
      auto answer = runner.answer(command);
      answer["id"] = command.at("id");
      write(answer);
    }
    return 0;
  } catch (const std::exception& fault) {
    std::cerr << "a fault of the runner: " << fault.what() << std::endl;
    return 1;
  }
}
