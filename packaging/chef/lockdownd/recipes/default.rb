# lockdownd, from this node's attributes and data bag items: the package, its configuration, people and grants.

attributes = node['lockdownd'].to_h
bag = attributes['data_bag']
items = bag ? (attributes['data_bag_items'] || data_bag(bag)).sort.map { |id| data_bag_item(bag, id).to_h } : []
wanted = LockdowndCookbook::Attributes.new(attributes, items)
LockdowndCookbook::Attributes.kept(node.normal_attrs).each { |warning| Chef::Log.warn(warning) }

lockdownd_install 'lockdownd' do
  wanted.install.each { |name, value| public_send(name, value) }
end

lockdownd_config 'lockdownd' do
  settings wanted.settings
  stack attributes['stack'] if attributes['stack']
end

wanted.people.each do |entry|
  lockdownd_person entry['name'] do
    keys entry['keys']
    accounts entry['accounts']
    operator entry['operator']
    origin entry['origin']
  end
end

wanted.grants.each do |entry|
  lockdownd_grant entry['label'] do
    entry.reject { |name, _| name == 'label' }.each { |name, value| public_send(name, value) }
  end
end

service 'lockdownd' do
  action %i(enable start)
end
