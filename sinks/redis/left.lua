-- The entities that a row has left, the last 32, as a JSON array in the field `id` of `key`; it has left one more.
local LEFT_MAX = 32
local function leave(key, id, entity)
  local left = {}
  for _, name in ipairs(cjson.decode(redis.call('HGET', key, id) or '[]')) do
    if name ~= entity then
      left[#left + 1] = name
    end
  end
  left[#left + 1] = entity
  if #left > LEFT_MAX then table.remove(left, 1) end
  redis.call('HSET', key, id, cjson.encode(left))
end
