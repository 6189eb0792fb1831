-- Enqueue the webhooks whose next attempt is due. ARGV: webhook template, limit. Returns how many.
local time = clock()
local due = redis.call('ZRANGEBYSCORE', 'musicgen:webhooks', '-inf', time, 'LIMIT', 0, ARGV[2])
for _, member in ipairs(due) do
  local attempts = tonumber(redis.call('HGET', 'musicgen:webhook:' .. member, 'attempts') or 0)
  -- Due again in a minute, should this message or its worker get lost.
  redis.call('ZADD', 'musicgen:webhooks', time + 60, member)
  redis.call('LPUSH', 'webhooks', message(ARGV[1], member, member .. ':' .. (attempts + 1)))
end
return #due
