-- An owner's records of one kind, newest first.
-- Given: owner, kind, score and last_id (of the last one of the page before; '+inf' and '' for the first page), limit.
-- Returns a list of {flat record, queue position or -1}, at most limit + 1 of them: one more shows that a page follows.
local score, last, limit = given.score, given.last_id, given.limit + 1
local page, offset, seen = {}, 0, last == ''
while #page < limit do
  -- Equal times are ordered by id, descending; those up to and with `last` were on the page before.
  local members = redis.call('ZREVRANGEBYSCORE', list_of(given.owner, given.kind), score, '-inf', 'WITHSCORES',
    'LIMIT', offset, limit)
  if #members == 0 then break end
  offset = offset + #members / 2
  for i = 1, #members, 2 do
    local id = members[i]
    if (seen or tonumber(members[i + 1]) ~= tonumber(score) or id < last) and #page < limit then
      local record = redis.call('HGETALL', KEY.prediction(id))
      if #record > 0 then
        page[#page + 1] = { record, position(id) }
      end
    end
  end
end
return page
