-- Take the next prediction, and the lease on it: one that has had its turn before, else the first one of the tenant whose
-- turn it is.
-- Given: queue, token (that of the new lease), lease_seconds, beside (ids that the same worker works on already), held
-- (the tokens of its leases on them), no_audio (whether it has no place to fetch input audio in), no_audio_of (owners
-- who have no such place there), limit (of what is put right on the way), overdue_error.
-- Returns {flat record, -1}; nothing where none waits, or where the next one may not be taken now.
local queue = given.queue

local function answer(id) return { redis.call('HGETALL', KEY.prediction(id)), -1 } end

local before = chosen_before(given.token)
if before then return holds_lease(before, given.token) and answer(before) end

cancel_overdue(given.limit, given.overdue_error)
adopt(queue, given.limit)
-- A suspect is tried alone: nothing is taken beside it, and it waits until its worker has nothing else to do.
for _, id in ipairs(given.beside) do
  if is_suspect(id) then return false end
end
local mine, without_place = {}, {}
for _, token in ipairs(given.held) do mine[token] = true end
for _, owner in ipairs(given.no_audio_of) do without_place[owner] = true end

-- How much is looked at behind what is passed over: what has been given back, tenants, and predictions of each.
local RETURNED_SEEN, OWNERS_SEEN, SEEN_OF_AN_OWNER = 100, 20, 50

local function is_passed_over(id)
  local record = redis.call('HMGET', KEY.prediction(id), 'lease_token', 'needs_audio', 'owner')
  -- One that this worker holds waits only because its lease ran out; its next renewal takes it up again.
  return mine[record[1]] or record[2] and (given.no_audio or without_place[record[3]])
end

local function first_of(ids)
  for _, id in ipairs(ids) do
    if not is_passed_over(id) then return id end
  end
end

-- The next one, and its tenant where it has its turn now.
local function next_one()
  local returned = first_of(redis.call('ZRANGE', KEY.returned(queue), 0, #given.held + RETURNED_SEEN))
  if returned then return returned end
  for _, owner in ipairs(redis.call('ZRANGE', KEY.turns(queue), 0, OWNERS_SEEN - 1)) do
    local id = first_of(redis.call('ZRANGE', KEY.tenant_waiting(queue, owner), 0, SEEN_OF_AN_OWNER - 1))
    if id then return id, owner end
  end
end

local id, owner = next_one()
for _ = 1, given.limit do
  if not id or redis.call('HGET', KEY.prediction(id), 'status') == STATUS.starting then break end
  -- A process of an earlier version has ended it, and did not know that it waited here.
  stop_waiting(queue, owner or redis.call('HGET', KEY.prediction(id), 'owner') or '', id)
  id, owner = next_one()
end
if not id or is_overdue(id) then return false end
local alone = #given.beside == 0
if is_suspect(id) and not alone then return false end

local key = KEY.prediction(id)
local attempt = redis.call('HINCRBY', key, 'attempt', 1)
redis.call('HSET', key, 'status', STATUS.processing, 'lease_token', given.token)
redis.call('HSETNX', key, 'started_at', clock())
redis.call('HDEL', key, 'progress', 'logs', 'live_chunks', 'alone')
if alone then redis.call('HSET', key, 'alone', 1) end
for _, other in ipairs(given.beside) do redis.call('HDEL', KEY.prediction(other), 'alone') end
lease(id, given.lease_seconds)
if owner then charge(queue, owner, id) end
stop_waiting(queue, redis.call('HGET', key, 'owner'), id)
if owner and not may_start(owner) then line_up_everywhere(owner) end
emit(id, EVENT.status, STATUS.processing)
if attempt == 1 then owe_webhook(id, WEBHOOK.start) end
remember_choice(given.token, id)
return answer(id)
