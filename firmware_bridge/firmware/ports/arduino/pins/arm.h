/* The arm's wiring, six hobby servos: edit this for yours. docs/wiring.md explains the columns. */
#ifndef LATENTLOOP_PINS_H
#define LATENTLOOP_PINS_H

/* SERVOS: axis, pin, pulse at 0 rad (us), us per rad, shortest and longest pulse (us) */
#if defined(ARDUINO_ARCH_RP2040)
#define BAUD 1000000
#define STOP_PIN 15
#define SERVOS \
    {0, 2, 1500, 637, 500, 2500}, \
    {1, 3, 1500, 637, 500, 2500}, \
    {2, 4, 1500, 637, 500, 2500}, \
    {3, 5, 1500, 637, 500, 2500}, \
    {4, 6, 1500, 637, 500, 2500}, \
    {5, 7, 1500, 637, 500, 2500}
#elif defined(ARDUINO_ARCH_ESP32)
#define BAUD 1000000
#define STOP_PIN 13
#define SERVOS \
    {0, 25, 1500, 637, 500, 2500}, \
    {1, 26, 1500, 637, 500, 2500}, \
    {2, 27, 1500, 637, 500, 2500}, \
    {3, 14, 1500, 637, 500, 2500}, \
    {4, 16, 1500, 637, 500, 2500}, \
    {5, 17, 1500, 637, 500, 2500}
#elif defined(ARDUINO_ARCH_STM32)
#define BAUD 1000000
#define STOP_PIN PB9
#define NOISE_PIN PA5
#define SERVOS \
    {0, PA0, 1500, 637, 500, 2500}, \
    {1, PA1, 1500, 637, 500, 2500}, \
    {2, PA2, 1500, 637, 500, 2500}, \
    {3, PA3, 1500, 637, 500, 2500}, \
    {4, PA6, 1500, 637, 500, 2500}, \
    {5, PA7, 1500, 637, 500, 2500}
#else /* Mega; the trajectory buffer does not fit the 2 KB of an Uno */
#define BAUD 500000
#define STOP_PIN 10
#define NOISE_PIN A3
#define SERVOS \
    {0, 2, 1500, 637, 500, 2500}, \
    {1, 3, 1500, 637, 500, 2500}, \
    {2, 4, 1500, 637, 500, 2500}, \
    {3, 5, 1500, 637, 500, 2500}, \
    {4, 6, 1500, 637, 500, 2500}, \
    {5, 7, 1500, 637, 500, 2500}
#endif

#endif
