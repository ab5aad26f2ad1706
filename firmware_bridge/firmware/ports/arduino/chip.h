/* What every chip does in its own way: the watchdog, why it was reset, and a number that is new at every start. */
#ifndef LATENTLOOP_CHIP_H
#define LATENTLOOP_CHIP_H

#include <Arduino.h>

extern "C" {
#include "core.h"
}

void identify(fb_identity *identity); /* call before start_watchdog */
void start_watchdog();                /* 50 ms; on an AVR 60 ms */
void feed_watchdog();

#endif
