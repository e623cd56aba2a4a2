# Evaluates the Ruby examples of the cookbook's README, reads {"cookbook", "pages"} as JSON: attributes as an attribute file,
# recipes by the stand-in, without running them. Prints what they set and declare ("attributes", "resources"), and what there
# is to document ("defaults", "properties": {TYPE: [PROPERTY]}).

require_relative 'converge'

# Chef's own resources in the examples, which nobody runs here.
Class.new(Chef::Resource) do
  provides :cron
  %i(minute command).each { |name| property name, Object }
end

asked = JSON.parse($stdin.read)
Chef::World.cookbook = asked['cookbook']
attributes = load_cookbook(asked['cookbook'])
documented = Defaults.new
run_context = Chef::RunContext.new({ 'release' => '7' }, {})
asked['pages'].map { |page| File.read(page) }.join("\n").scan(/^```ruby\n(.*?)^```$/m).flatten.each do |example|
  if example.start_with?('default[')
    documented.instance_eval(example, 'README.md', 1)
  elsif !example.start_with?('run_list')
    Chef::Recipe.new('site', 'default', run_context).instance_eval(example, 'README.md', 1)
  end
end
types = Chef::Resource.types.select { |type, _| type.start_with?('lockdownd_') && type != :lockdownd_files }
puts JSON.generate(
  'attributes' => documented.attributes['lockdownd'],
  'defaults' => attributes['lockdownd'],
  'resources' => run_context.resources.map(&:to_s),
  'properties' => types.transform_values { |resource| resource.properties.keys }
)
