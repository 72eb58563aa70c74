#include "core.h"

#include <utility>

namespace restante::detail {

Core::Core(Config its_config)
    : config(std::move(its_config)),
      link([this] { return config.dial(); }),
      operations(link, timer, config.patience, [this] { return token(); }),
      watching(*this) {}

Core::~Core() { close(); }

void Core::close() {
  closing.cancel();
  {
    const std::lock_guard lock(session_mutex_);
    closed_ = true;
    session_changed_.notify_all();
  }
  operations.close();
  watching.close();
  timer.stop();
  if (renewing_.joinable()) renewing_.join();
}

}  // namespace restante::detail
