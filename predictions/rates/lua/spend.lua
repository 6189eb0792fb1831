-- Count a tenant's request, if its bucket has room for it within the request's patience.
-- Given: owner, kind, token (that of the request), interval (seconds in which room for one request comes), limit (how
-- many requests the full bucket holds), patience_seconds.
-- Returns {'1' or '0' (not counted), seconds until there is room, seconds until the bucket is full}. Repeated because its
-- answer was lost, it counts nothing and gives the same answer.
local key, answered = KEY.rate(given.owner, given.kind), KEY.rate_answer(given.token)
local before = redis.call('GET', answered)
if before then return cjson.decode(before) end

local now = tonumber(clock())
local full = math.max(tonumber(redis.call('GET', key) or 0), now)
local wait = math.max(full - (given.limit - 1) * given.interval - now, 0)
local granted = wait <= given.patience_seconds
if granted then full = full + given.interval end
local answer = { granted and '1' or '0', string.format('%.6f', wait), string.format('%.6f', full - now) }
if granted then
  redis.call('SET', key, string.format('%.6f', full), 'EX', math.ceil(full - now) + 1)
  -- Longer than the API repeats a command.
  redis.call('SET', answered, cjson.encode(answer), 'EX', 10)
end
return answer
