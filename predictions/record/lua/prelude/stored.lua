-- How many bytes of files and outputs are kept for an owner.
local function stored_bytes(owner)
  return tonumber(redis.call('GET', KEY.stored(owner)) or 0)
end

-- Add to them, or take away from them. Each record says what was added for it, so that just as much is taken away.
local function count_stored(owner, bytes)
  local kept = redis.call('INCRBY', KEY.stored(owner), bytes)
  if kept <= 0 then redis.call('DEL', KEY.stored(owner)) end
end
