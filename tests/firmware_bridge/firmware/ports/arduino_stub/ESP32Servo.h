/* The interface of the library ESP32Servo. */
#include "Servo.h"
