// A vendor's runtime, opened when the first device of it is asked for. Never closed: its threads may outlive us.
#pragma once

#include <dlfcn.h>

#include <initializer_list>
#include <string>

#include "check.h"

namespace octet {

// The first of the names the loader finds; throws OCTET_NO_DEVICE with the loader's message for each.
inline void* open_library(const char* driver, std::initializer_list<const char*> names) {
  std::string tried;
  for (const char* name : names) {
    if (void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return handle;
    const char* why = dlerror();
    tried += tried.empty() ? "" : "; ";
    tried += why == nullptr ? name : why;
  }
  fail(OCTET_NO_DEVICE, "%s: library not found: %s", driver, tried.c_str());
}

template <class Function>
void load_symbol(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function == nullptr) fail(OCTET_NO_DEVICE, "the vendor's library lacks %s: it is too old", name);
}

}  // namespace octet
