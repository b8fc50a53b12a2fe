-- Where an order's own partition has too few VNs, its hash there becomes a mark that
-- points to another partition. A mark is the time it was made, ms, and every later mark
-- of the order is greater. A partition that has too few as well leaves a refusal of that
-- mark, and only who was refused may move the mark on: so an order can be assigned
-- nowhere but at home and where the mark points. docs/adr/0008-spill-over.md has the proof.

-- A mark that points here is honoured for this long, and a refusal kept for longer (which
-- covers clocks that differ): whoever is later than both begins anew.
local MARK_LASTS, REFUSAL_LASTS = 60000, 600000

-- refused tells whether nobody may take VNs here under this mark any more.
local function refused(held, mark, now)
  return now > mark + MARK_LASTS or tonumber(held.mark or 0) >= tonumber(mark)
end

-- refuse leaves the refusal.
local function refuse(key, held, mark, now)
  if tonumber(held.mark or 0) < tonumber(mark) then redis.call('HSET', key, 'state', 'refused', 'mark', mark) end
  redis.call('PEXPIREAT', key, ms(now + REFUSAL_LASTS))
end

-- give_up lets a mark go that nothing can come of any more.
local function give_up(key, now) redis.call('PEXPIREAT', key, ms(now + REFUSAL_LASTS)) end

-- forward points to another partition for as long as an order may live there.
local function forward(key, held, now, at, lasts)
  local mark = ms(math.max(now, tonumber(held.mark or 0) + 1))
  redis.call('HSET', key, 'state', 'forwarded', 'mark', mark, 'at', at)
  redis.call('PEXPIREAT', key, ms(now + lasts))
  return mark
end
