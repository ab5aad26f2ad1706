/* The rover's wiring: edit this for yours. docs/wiring.md explains the columns. */
#ifndef LATENTLOOP_PINS_H
#define LATENTLOOP_PINS_H

#define NO_PIN (-1)
#define COUNTS_PER_TURN 1320L      /* edges of A per turn of the wheel */
#define FULL_SPEED 20000L          /* mrad/s at full duty */
#define NRAD_PER_DUTY 4000000L     /* so far behind, the duty grows by 1/255; larger is softer */
#define CURRENT_UA_PER_COUNT 10000L
#define SUPPLY_UV_PER_COUNT 20000u /* with the divider; without SUPPLY_PIN nothing is measured */

/* WHEELS: axis, PWM, forward, backward, encoder A, encoder B, current */
#if defined(ARDUINO_ARCH_RP2040)
#define BAUD 1000000
#define STOP_PIN 15
#define SUPPLY_PIN 28
#define WHEELS {0, 2, 3, 4, 10, 11, 26}, {1, 6, 7, 8, 12, 13, 27}
#elif defined(ARDUINO_ARCH_ESP32)
#define BAUD 1000000
#define STOP_PIN 13
#define SUPPLY_PIN 34
#define WHEELS {0, 25, 26, 27, 18, 19, 32}, {1, 14, 16, 17, 21, 22, 33}
#elif defined(ARDUINO_ARCH_STM32)
#define BAUD 1000000
#define STOP_PIN PB9
#define SUPPLY_PIN PA4
#define NOISE_PIN PA5
#define WHEELS {0, PA8, PB0, PB1, PB6, PB7, PA0}, {1, PA9, PB10, PB12, PB4, PB5, PA1}
#else /* Uno, Nano and Mega: only 2 and 3 have interrupts on all of them */
#define BAUD 500000
#define STOP_PIN 10
#define SUPPLY_PIN A2
#define NOISE_PIN A3
#define WHEELS {0, 5, 7, 8, 2, 4, A0}, {1, 6, 11, 12, 3, 9, A1}
#endif

#endif
