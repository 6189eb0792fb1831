-- The webhooks whose next attempt is due. Given: owners, hosts, lanes (owner and host in turn): those to be passed over;
-- each_lane (how many of one lane are returned at most), limit (how many in all, and how many owners are looked at).
-- Returns {webhook-id, owner, host} of each: owners in the order of what has been due longest, and so their hosts.
local time = clock()

-- An earlier version's deliveries wait in no lane.
for _, delivery in ipairs(redis.call('ZRANGE', KEY.all_webhooks, 0, given.limit - 1)) do
  local due = redis.call('HGET', KEY.delivery(delivery), 'due')
  if due then fall_due(delivery, due) end
  redis.call('ZREM', KEY.all_webhooks, delivery)
end

local function set_of(list)
  local set = {}
  for _, member in ipairs(list) do set[member] = true end
  return set
end

local owners, hosts, lanes = set_of(given.owners), set_of(given.hosts), {}
for n = 1, #given.lanes, 2 do
  local owner = given.lanes[n]
  lanes[owner] = lanes[owner] or {}
  lanes[owner][given.lanes[n + 1]] = true
end

local found = {}
local function collect(owner)
  local most = given.limit + #given.hosts + #given.lanes
  for _, host in ipairs(redis.call('ZRANGEBYSCORE', KEY.webhook_hosts(owner), '-inf', time, 'LIMIT', 0, most)) do
    if not hosts[host] and not (lanes[owner] and lanes[owner][host]) then
      local lane, room = KEY.webhooks(owner, host), math.min(given.each_lane, given.limit - #found)
      for _, delivery in ipairs(redis.call('ZRANGEBYSCORE', lane, '-inf', time, 'LIMIT', 0, room)) do
        found[#found + 1] = { delivery, owner, host }
      end
    end
    if #found >= given.limit then return end
  end
end

local most = given.limit + #given.owners
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', KEY.webhook_owners, '-inf', time, 'LIMIT', 0, most)) do
  if not owners[owner] then collect(owner) end
  if #found >= given.limit then break end
end
return found
