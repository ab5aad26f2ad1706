/* The interface of the STM32 library IWatchdog. */
#ifndef STUB_IWATCHDOG_H
#define STUB_IWATCHDOG_H

#include <stdint.h>

struct IWatchdogClass {
    void begin(uint32_t us);
    void reload();
    bool isReset(bool clear);
};
extern IWatchdogClass IWatchdog;

#endif
