from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0002_fill")]
    operations = [
        migrations.AddField("order", "state", models.CharField(max_length=9, default="new", db_index=True)),
        migrations.AddField("order", "note", models.TextField(null=True)),
        migrations.AlterField("customer", "name", models.CharField(max_length=100, db_index=True)),
        migrations.RenameField("order", "amount", "total"),
    ]
