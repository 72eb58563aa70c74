#include "retry.h"

#include <random>

namespace restante::detail {

Nanoseconds jittered(Nanoseconds pause) {
  thread_local std::minstd_rand random{std::random_device{}()};
  return Nanoseconds(std::uniform_int_distribution<Nanoseconds::rep>(pause.count() / 2, pause.count())(random));
}

}  // namespace restante::detail
