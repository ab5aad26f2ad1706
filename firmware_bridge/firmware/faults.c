/* Faults that follow from what is measured, and what a fault does. */
#include "parts.h"

/* Whether a condition has lasted for ms already, without a break. */
static bool lasting(uint32_t *already_us, bool present, uint32_t elapsed_us, int32_t ms)
{
    uint32_t enough_us = (uint32_t)ms * 1000u;
    if (!present) *already_us = 0;
    else if (*already_us < enough_us) *already_us += elapsed_us;
    return present && *already_us >= enough_us;
}

static int64_t apart(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

void fb_raise_faults(fb_core *c)
{
    uint32_t present = c->fault_inputs | c->fault_measured;
    c->faults |= present;
    if (present != 0 && !fb_latched(c)) fb_cut(c, FB_STATE_FAULT, FB_STOP_CAUSE_FAULT);
}

void fb_check_faults(fb_core *c, uint32_t elapsed_us)
{
    int32_t low_mv = fb_device_parameter(c, FB_PARAMETER_UNDER_VOLTAGE_MV);
    bool low = c->supply_mv != 0 && c->supply_mv < low_mv;
    c->fault_measured = 0;
    if (lasting(&c->under_voltage_us, low, elapsed_us, fb_device_parameter(c, FB_PARAMETER_UNDER_VOLTAGE_MS)))
        c->fault_measured |= FB_FAULT_UNDER_VOLTAGE;
    for (int i = 0; i < FB_AXES; i++) {
        int32_t most_ma = fb_axis_parameter(c, FB_PARAMETER_OVER_CURRENT_MA, i);
        bool over = most_ma != 0 && apart(c->current[i], 0) > most_ma;
        if (lasting(&c->over_current_us[i], over, elapsed_us, fb_device_parameter(c, FB_PARAMETER_OVER_CURRENT_MS)))
            c->fault_measured |= FB_FAULT_OVER_CURRENT;

        int32_t most_apart = fb_axis_parameter(c, FB_PARAMETER_ENCODER_LIMIT, i);
        int32_t measured = fb_axis_mode[i] == FB_MODE_VELOCITY ? c->velocity[i] : c->position[i];
        bool lost = most_apart != 0 && c->drive[i] == FB_DRIVE_ON && apart(measured, c->output[i]) > most_apart;
        if (lasting(&c->encoder_us[i], lost, elapsed_us, fb_device_parameter(c, FB_PARAMETER_ENCODER_MS)))
            c->fault_measured |= FB_FAULT_ENCODER;
    }
    fb_raise_faults(c);
}
