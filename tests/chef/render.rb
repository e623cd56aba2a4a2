# Renders the cookbook's templates for many attribute sets: reads {"cookbook", "engine", "cases": [{"attributes", "items"}]}
# as JSON, prints one {"config", "people"} or {"refused"} for each. {"$bytes": HEX} stands for a string of these bytes.

require 'json'
require_relative 'resources'

def with_bytes(value)
  case value
  when Hash
    return [value['$bytes']].pack('H*').force_encoding(Encoding::UTF_8) if value.key?('$bytes')

    value.transform_values { |entry| with_bytes(entry) }
  when Array then value.map { |entry| with_bytes(entry) }
  else value
  end
end

def render(attributes, items)
  wanted = LockdowndCookbook::Attributes.new(attributes, items)
  helpers = [LockdowndCookbook::Toml]
  grants = wanted.grants.map { |grant| grant.reject { |key, _| key == 'label' } }
  { 'config' => Chef.render('config.toml.erb', { settings: wanted.settings }, helpers),
    'people' => Chef.render('people.toml.erb', { people: wanted.people, grants: grants }, helpers) }
rescue LockdowndCookbook::Refused => e
  { 'refused' => e.message }
end

asked = JSON.parse($stdin.read, max_nesting: false)
Chef::World.cookbook = asked['cookbook']
Chef::World.engine = asked['engine']
Dir[File.join(asked['cookbook'], 'libraries', '*.rb')].sort.each { |path| require path }
puts JSON.generate(asked['cases'].map { |one| render(with_bytes(one['attributes']), with_bytes(one['items'] || [])) })
