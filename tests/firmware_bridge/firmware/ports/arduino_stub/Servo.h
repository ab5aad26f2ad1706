/* The interface of the Arduino library Servo. */
#ifndef STUB_SERVO_H
#define STUB_SERVO_H

#include <stdint.h>

class Servo {
  public:
    uint8_t attach(int pin, int shortest_us, int longest_us);
    void detach();
    void writeMicroseconds(int us);
    bool attached();

  private:
    int pin = -1;
};

#endif
