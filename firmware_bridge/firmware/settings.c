/* Limits and parameters: what is compiled in, and what a host may make of it. */
#include "parts.h"

const uint8_t fb_axis_mode[FB_AXES] = FB_AXIS_MODES;
const uint32_t fb_compiled_acceleration[FB_AXES] = FB_MAX_ACCELERATION;

static const uint32_t max_speed[FB_AXES] = FB_MAX_SPEED;
static const int32_t min_position[FB_AXES] = FB_MIN_POSITION;
static const int32_t max_position[FB_AXES] = FB_MAX_POSITION;
static const char axis_name[FB_AXES][16] = FB_AXIS_NAMES;
static const int32_t axis_parameters[FB_AXIS_PARAMETERS][FB_AXES] = {
    FB_STOP_POLICIES, FB_RELEASE_AFTER_MS, FB_OVER_CURRENT_MA, FB_ENCODER_LIMIT,
};
static const int32_t device_parameters[FB_DEVICE_PARAMETERS] = {
    FB_OVER_CURRENT_MS, FB_ENCODER_MS, FB_UNDER_VOLTAGE_MV, FB_UNDER_VOLTAGE_MS, FB_LEASE_CAP_US / 1000, FB_UNDERRUN_MS,
};

#define FIRST_OF_DEVICE FB_PARAMETER_OVER_CURRENT_MS
#define SHORTEST_LEASE_CAP_MS 50
#define LARGEST_THRESHOLD 1000000
#define LONGEST_RELEASE_MS 60000

void fb_default_settings(fb_core *c)
{
    for (int p = 0; p < FB_DEVICE_PARAMETERS; p++) c->parameters[p] = device_parameters[p];
    for (uint8_t i = 0; i < FB_AXES; i++) {
        c->limits[i].max_speed = max_speed[i];
        c->limits[i].max_acceleration = fb_compiled_acceleration[i];
        c->limits[i].min_position = min_position[i];
        c->limits[i].max_position = max_position[i];
        for (uint8_t p = 0; p < FB_AXIS_PARAMETERS; p++) c->parameters[fb_parameter_index(p, i)] = axis_parameters[p][i];
    }
}

/* -- limits ------------------------------------------------------------------------------------------------------ */

void fb_pack_axis(const fb_core *c, uint8_t axis, uint8_t *payload)
{
    fbm_axis m = {
        .axis = axis,
        .mode = fb_axis_mode[axis],
        .max_speed = c->limits[axis].max_speed,
        .max_acceleration = c->limits[axis].max_acceleration,
        .min_position = c->limits[axis].min_position,
        .max_position = c->limits[axis].max_position,
    };
    for (size_t i = 0; i < sizeof m.name; i++) m.name[i] = (uint8_t)axis_name[axis][i];
    fbm_axis_pack(&m, payload);
}

uint32_t fb_limits_crc(const fb_core *c)
{
    uint8_t payload[FB_SIZE_AXIS];
    fb_put(payload, (uint32_t)fb_device_parameter(c, FB_PARAMETER_LEASE_CAP_MS) * 1000u, 4);
    uint32_t crc = fb_crc32(0, payload, 4);
    for (uint8_t i = 0; i < FB_AXES; i++) {
        fb_pack_axis(c, i, payload);
        crc = fb_crc32(crc, payload, FB_SIZE_AXIS);
    }
    return crc;
}

uint8_t fb_set_limits(fb_core *c, const fbm_limits_set *m)
{
    if (m->axis >= FB_AXES) return FB_CODE_BAD_AXIS;
    if (m->max_speed > max_speed[m->axis] || m->max_acceleration > fb_compiled_acceleration[m->axis] ||
        m->max_acceleration == 0 || m->min_position < min_position[m->axis] || m->max_position > max_position[m->axis] ||
        m->min_position > m->max_position)
        return FB_CODE_BAD_VALUE;
    fb_limits *limits = &c->limits[m->axis];
    limits->max_speed = m->max_speed;
    limits->max_acceleration = m->max_acceleration;
    limits->min_position = m->min_position;
    limits->max_position = m->max_position;
    return FB_CODE_OK;
}

/* A limit as PARAM: in force, and what fb_set_limits would take. */
static bool describe_limit(const fb_core *c, fbm_param *m)
{
    uint8_t i = m->axis;
    if (i >= FB_AXES) return false;
    const fb_limits *limits = &c->limits[i];
    m->value = limits->max_position;
    m->low = min_position[i];
    m->high = max_position[i];
    switch (m->parameter) {
    case FB_PARAMETER_MAX_SPEED:
        m->value = (int32_t)limits->max_speed;
        m->low = 0;
        m->high = (int32_t)max_speed[i];
        return true;
    case FB_PARAMETER_MAX_ACCELERATION:
        m->value = (int32_t)limits->max_acceleration;
        m->low = 1;
        m->high = (int32_t)fb_compiled_acceleration[i];
        return true;
    case FB_PARAMETER_MIN_POSITION: m->value = limits->min_position; return true;
    default: return m->parameter == FB_PARAMETER_MAX_POSITION;
    }
}

/* -- parameters -------------------------------------------------------------------------------------------------- */

int fb_parameter_index(uint8_t parameter, uint8_t axis)
{
    if (parameter < FB_AXIS_PARAMETERS)
        return axis < FB_AXES ? FB_DEVICE_PARAMETERS + axis * FB_AXIS_PARAMETERS + parameter : -1;
    if (parameter < FIRST_OF_DEVICE || parameter >= FIRST_OF_DEVICE + FB_DEVICE_PARAMETERS || axis != 0) return -1;
    return parameter - FIRST_OF_DEVICE;
}

int32_t fb_axis_parameter(const fb_core *c, uint8_t parameter, int axis)
{
    return c->parameters[FB_DEVICE_PARAMETERS + axis * FB_AXIS_PARAMETERS + parameter];
}

int32_t fb_device_parameter(const fb_core *c, uint8_t parameter)
{
    return c->parameters[parameter - FIRST_OF_DEVICE];
}

void fb_parameter_range(uint8_t parameter, uint8_t axis, int32_t *low, int32_t *high)
{
    bool of_axis = parameter < FB_AXIS_PARAMETERS;
    int32_t compiled = of_axis ? axis_parameters[parameter][axis] : device_parameters[parameter - FIRST_OF_DEVICE];
    *low = 0;
    *high = compiled; /* a delay: shorter is more careful */
    switch (parameter) {
    case FB_PARAMETER_STOP_POLICY: *high = FB_STOP_POLICY_RELEASE; break;
    case FB_PARAMETER_RELEASE_AFTER_MS: *high = LONGEST_RELEASE_MS; break;
    case FB_PARAMETER_OVER_CURRENT_MA:
    case FB_PARAMETER_ENCODER_LIMIT:
        if (compiled != 0) *low = 1;
        else *high = LARGEST_THRESHOLD;
        break;
    case FB_PARAMETER_UNDER_VOLTAGE_MV:
        *low = compiled;
        *high = UINT16_MAX;
        break;
    case FB_PARAMETER_LEASE_CAP_MS: *low = SHORTEST_LEASE_CAP_MS; break;
    default: break;
    }
}

bool fb_describe_parameter(const fb_core *c, fbm_param *m)
{
    int index = fb_parameter_index(m->parameter, m->axis);
    if (index < 0) return describe_limit(c, m);
    m->value = c->parameters[index];
    fb_parameter_range(m->parameter, m->axis, &m->low, &m->high);
    return true;
}
