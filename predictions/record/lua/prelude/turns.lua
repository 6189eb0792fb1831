-- Whose turn it is: start-time fair queueing among the tenants of a queue.
--
-- A tenant's virtual time in a queue is the seconds of music that it was given there, divided by its weight; the tenant
-- with the least is next. The queue's own virtual time is that of the last tenant that had its turn. Whoever comes to
-- the line begins there, or where it left off where that is later: nobody saves up service while nothing of its waits.

-- More than any time in seconds since 1970: age decides only among equal priorities.
local PRIORITY_SPAN = 1e10
-- How much is looked at to tell a place in the queue: other tenants, and predictions in all.
local TENANTS_SEEN, PREDICTIONS_SEEN = 6, 64
-- How many of a tenant's predictions are read at once where turns are gone through.
local READ_AT_ONCE = 8

local function weight_of(owner)
  return tonumber(redis.call('HGET', KEY.tenant(owner), 'weight') or 1)
end

-- Whether a tenant may have another prediction running.
local function may_start(owner)
  local limit = redis.call('HGET', KEY.tenant(owner), 'running_limit')
  return not limit or redis.call('SCARD', KEY.tenant_running(owner)) < tonumber(limit)
end

local function virtual_time_of(queue, owner)
  local own = redis.call('ZSCORE', KEY.served(queue), owner) or 0
  return math.max(tonumber(own), tonumber(redis.call('GET', KEY.virtual_time(queue)) or 0))
end

-- Let a tenant wait for its turn where something of its waits and it may start another, and nowhere else.
local function line_up(queue, owner)
  local waits = redis.call('EXISTS', KEY.tenant_waiting(queue, owner)) == 1
  redis.call(waits and 'SADD' or 'SREM', KEY.tenant_queues(owner), queue)
  if waits and may_start(owner) then
    redis.call('ZADD', KEY.turns(queue), 'NX', virtual_time_of(queue, owner), owner)
  else
    redis.call('ZREM', KEY.turns(queue), owner)
  end
end

-- The same in all queues, because of what else the tenant may start has changed.
local function line_up_everywhere(owner)
  for _, queue in ipairs(redis.call('SMEMBERS', KEY.tenant_queues(owner))) do line_up(queue, owner) end
end

-- Keep what a tenant's share is; `running_limit` is negative for none. Defaults are not kept.
local function keep_share(owner, weight, running_limit)
  local key = KEY.tenant(owner)
  local known = redis.call('HMGET', key, 'weight', 'running_limit')
  if tonumber(known[1] or 1) ~= weight then redis.call('HSET', key, 'weight', weight) end
  if tonumber(known[2] or -1) == running_limit then return end
  if running_limit < 0 then
    redis.call('HDEL', key, 'running_limit')
  else
    redis.call('HSET', key, 'running_limit', running_limit)
  end
  line_up_everywhere(owner)
end

-- Have a prediction wait for its tenant's turn.
local function wait_for_turn(queue, owner, id, seconds, priority, created_at)
  redis.call('HSET', KEY.waiting(queue), id, seconds)
  redis.call('ZADD', KEY.waiting_since(queue), created_at, id)
  redis.call('ZADD', KEY.tenant_waiting(queue, owner), created_at - priority * PRIORITY_SPAN, id)
  line_up(queue, owner)
end

-- Have a prediction wait before all those that wait for a turn: it has had its own.
local function wait_again(queue, id, created_at)
  redis.call('HSET', KEY.waiting(queue), id, 0)
  redis.call('ZADD', KEY.waiting_since(queue), clock(), id)
  redis.call('HSET', KEY.prediction(id), 'returned_at', clock())
  redis.call('ZADD', KEY.returned(queue), created_at, id)
end

local function stop_waiting(queue, owner, id)
  redis.call('HDEL', KEY.waiting(queue), id)
  redis.call('ZREM', KEY.waiting_since(queue), id)
  redis.call('ZREM', KEY.returned(queue), id)
  redis.call('ZREM', KEY.queued(queue), id)
  if redis.call('ZREM', KEY.tenant_waiting(queue, owner), id) == 1 then line_up(queue, owner) end
end

-- How many of a tenant's predictions wait for its turn, in all queues.
local function count_waiting(owner)
  local count = 0
  for _, queue in ipairs(redis.call('SMEMBERS', KEY.tenant_queues(owner))) do
    count = count + redis.call('ZCARD', KEY.tenant_waiting(queue, owner))
  end
  return count
end

-- Charge a tenant for its turn with a prediction that still waits.
local function charge(queue, owner, id)
  local start = virtual_time_of(queue, owner)
  local seconds = tonumber(redis.call('HGET', KEY.waiting(queue), id) or 0)
  redis.call('SET', KEY.virtual_time(queue), start)
  redis.call('ZADD', KEY.served(queue), start + seconds / weight_of(owner), owner)
  -- Whoever was given less than that begins at the queue's virtual time, and need not be remembered.
  redis.call('ZREMRANGEBYSCORE', KEY.served(queue), '-inf', start)
  redis.call('ZREM', KEY.turns(queue), owner)
end

-- Some of a tenant's predictions that wait for its turn, from `first` on: ids, and the virtual time that each costs.
local function costs_of(queue, owner, first, count)
  local ids = redis.call('ZRANGE', KEY.tenant_waiting(queue, owner), first, first + count - 1)
  if #ids == 0 then return ids, {} end
  local costs, weight = redis.call('HMGET', KEY.waiting(queue), unpack(ids)), weight_of(owner)
  for place = 1, #ids do costs[place] = tonumber(costs[place] or 0) / weight end
  return ids, costs
end

-- The ids that are taken next, where nothing changes meanwhile: those that have had their turn, then by turns.
local function next_in_turn(queue, count)
  local found, line = redis.call('ZRANGE', KEY.returned(queue), 0, count - 1), {}
  local turns = redis.call('ZRANGE', KEY.turns(queue), 0, count - 1, 'WITHSCORES')
  for place = 1, #turns, 2 do
    line[#line + 1] = { owner = turns[place], time = tonumber(turns[place + 1]), first = 0, place = 0, ids = {} }
  end
  while #found < count and #line > 0 do
    local least = 1
    for place = 2, #line do
      local one, other = line[place], line[least]
      if one.time < other.time or (one.time == other.time and one.owner < other.owner) then least = place end
    end
    local tenant = line[least]
    if tenant.place == #tenant.ids then
      tenant.first, tenant.place = tenant.first + #tenant.ids, 0
      tenant.ids, tenant.costs = costs_of(queue, tenant.owner, tenant.first, READ_AT_ONCE)
    end
    if #tenant.ids == 0 then
      table.remove(line, least)
    else
      tenant.place = tenant.place + 1
      found[#found + 1], tenant.time = tenant.ids[tenant.place], tenant.time + tenant.costs[tenant.place]
    end
  end
  return found
end

-- Lists ask for many places at once; nothing that waits changes meanwhile.
local seen = {}

-- The virtual times at which a tenant's next predictions have their turn, and that after the last one that is looked at.
-- `time` is the tenant's own.
local function look_at(queue, owner, time)
  local known = queue .. ' ' .. owner
  if not seen[known] then
    -- Each of few tenants is looked at more closely.
    local line = math.max(2, math.min(redis.call('ZCARD', KEY.turns(queue)), TENANTS_SEEN + 1))
    local times = {}
    local ids, costs = costs_of(queue, owner, 0, math.floor(PREDICTIONS_SEEN / line))
    for place = 1, #ids do
      times[place] = time
      time = time + costs[place]
    end
    seen[known] = { times = times, last = time }
  end
  return seen[known].times, seen[known].last
end

-- How many of a tenant's predictions, the first of which has its turn at `first`, have theirs before `time`, or at it
-- where `at_once`.
local function count_before(queue, owner, first, time, at_once)
  local times, last = look_at(queue, owner, first)
  for place = 1, #times do
    if times[place] > time or (times[place] == time and not at_once) then return place - 1 end
  end
  local further = redis.call('ZCARD', KEY.tenant_waiting(queue, owner)) - #times
  if further == 0 or last <= times[1] then return #times end
  -- Those that follow are taken to be as long as those that were looked at.
  return #times + math.min(further, math.ceil(math.max(0, time - last) * #times / (last - times[1])))
end

-- How many of all others have their turn before a tenant's prediction that `rank` of its own precede.
local function count_others_before(queue, owner, rank)
  local times, last = look_at(queue, owner, virtual_time_of(queue, owner))
  local time = times[rank + 1] or last + (rank - #times) * (last - times[1]) / #times
  local line = redis.call('ZRANGEBYSCORE', KEY.turns(queue), '-inf', time, 'WITHSCORES', 'LIMIT', 0, TENANTS_SEEN + 1)
  local count, others = 0, 0
  for place = 1, #line, 2 do
    local other = line[place]
    if other ~= owner and others < TENANTS_SEEN then
      others = others + 1
      count = count + count_before(queue, other, tonumber(line[place + 1]), time, other < owner)
    end
  end
  if #line <= 2 * TENANTS_SEEN then return count end
  -- Where there are many tenants, the others are taken to be like those that were looked at.
  local own = redis.call('ZSCORE', KEY.turns(queue), owner) and 1 or 0
  return math.floor(count * (redis.call('ZCOUNT', KEY.turns(queue), '-inf', time) - own) / others)
end

-- How many are taken before a prediction that waits in this queue, where nothing changes meanwhile; -1 where it does not
-- wait. Exact where no more is before it than is looked at; otherwise the rest is taken to be like that. A tenant that
-- may have nothing more running is counted as if it might.
local function place_in(queue, owner, id)
  local returned = redis.call('ZRANK', KEY.returned(queue), id)
  if returned then return returned end
  local rank = redis.call('ZRANK', KEY.tenant_waiting(queue, owner), id)
  if not rank then return -1 end
  local before = redis.call('ZCARD', KEY.returned(queue)) + rank
  local others = redis.call('ZCARD', KEY.turns(queue))
  if others == 1 and redis.call('ZSCORE', KEY.turns(queue), owner) then others = 0 end
  return others == 0 and before or before + count_others_before(queue, owner, rank)
end
