// The record every kernel leaves in the library when it is compiled for the simulator (OCTET_KERNEL in device_sim.h).
// The GPU drivers use the same table for a kernel's family, largest block and parameter size.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct OctetSimKernel {
  const char* name;
  const char* family;
  int32_t target;  // as in octet::Target
  int32_t max_threads;
  size_t params_size;
  void (*run)(const void* params);
};
