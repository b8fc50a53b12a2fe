-- clock returns the master's time in ms. It never goes back: the highest time seen
-- is kept in meta, so a failover to a slower clock cannot stretch or revive a lease.
local function clock(meta)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  return math.max(now, tonumber(redis.call('HGET', meta, 'clock')) or 0)
end

-- ms writes a time or duration as a whole number (tostring would round it).
local function ms(value) return string.format('%.0f', value) end

local function prefix_of(meta) return string.sub(meta, 1, -1 - #'meta') end
