-- What waits, runs and was counted. Given: owners (of the tenants that are told apart), most_lanes (of webhooks: how many
-- are looked at).
-- Returns {queues, tenants, webhooks that are due, seconds since the first of them is}. A queue is {name, live workers,
-- waiting, running, seconds since the first of them waits, flat counts, how many wait of each of the tenants}; tenants are
-- how many run of each.
local time = tonumber(clock())
local queues, running, due = {}, {}, 0

-- The least score of a sorted set as an age, as text, for a number would lose its fraction.
local function age(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return string.format('%.3f', first[2] and math.max(0, time - tonumber(first[2])) or 0)
end

for _, queue in ipairs(redis.call('SMEMBERS', KEY.queues)) do
  local waiting = {}
  for place, owner in ipairs(given.owners) do
    waiting[place] = redis.call('ZCARD', KEY.tenant_waiting(queue, owner))
  end
  queues[#queues + 1] = {
    queue,
    redis.call('ZCOUNT', KEY.workers(queue), '(' .. clock(), '+inf'),
    redis.call('HLEN', KEY.waiting(queue)),
    redis.call('SCARD', KEY.running(queue)),
    age(KEY.waiting_since(queue)),
    redis.call('HGETALL', KEY.counts(queue)),
    waiting,
  }
end
for place, owner in ipairs(given.owners) do running[place] = redis.call('SCARD', KEY.tenant_running(owner)) end

local lanes = given.most_lanes
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', KEY.webhook_owners, '-inf', time, 'LIMIT', 0, lanes)) do
  for _, host in ipairs(redis.call('ZRANGEBYSCORE', KEY.webhook_hosts(owner), '-inf', time, 'LIMIT', 0, lanes)) do
    due, lanes = due + redis.call('ZCOUNT', KEY.webhooks(owner, host), '-inf', time), lanes - 1
    if lanes <= 0 then break end
  end
  if lanes <= 0 then break end
end
return { queues, running, due, age(KEY.webhook_owners) }
